"""Adapters that stay in their file: the same as those in memory in every way, and not in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from lora_pack.merge.adapters.base import Adapter, Lora, LoraModule, Replacement, with_block_weight
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.formats.key_styles import convert_keys
from lora_pack.merge.io import background_writer, safetensors_file
from lora_pack.merge.lazy import LazyTensor
from lora_pack.tests.support.makers import down_of, make_lora, up_of
from lora_pack.tests.support.merging import merge
from torch import Tensor

NAME = "lora_unet_one"
ROWS, COLUMNS = 24, 20


def values(*size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 0.3


def loha(rank: int) -> dict[str, Tensor]:
    up, down = (ROWS, rank), (rank, COLUMNS)
    shapes = {"hada_w1_a": up, "hada_w1_b": down, "hada_w2_a": up, "hada_w2_b": down}
    return {key: values(*shape, seed=n) for n, (key, shape) in enumerate(shapes.items())} | {"alpha": torch.tensor(1.5)}


def lokr(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {f"lokr_{key}": values(*shape, seed=n) for n, (key, shape) in enumerate(shapes.items())}


KINDS: dict[str, dict[str, Tensor]] = {
    "LoHa of few ranks": loha(2),
    "LoHa of many ranks": loha(5),
    "LoHa with cores": {
        **{f"hada_t{n}": values(2, 2, 3, 3, seed=n) for n in (1, 2)},
        **{f"hada_w{n}_a": values(2, ROWS, seed=n + 2) for n in (1, 2)},
        **{f"hada_w{n}_b": values(2, COLUMNS, seed=n + 4) for n in (1, 2)},
    },
    "LoKr of two whole ones": lokr(w1=(4, 5), w2=(6, 4)),
    "LoKr of a whole and factors": {**lokr(w1=(4, 5), w2_a=(6, 1), w2_b=(1, 4)), "alpha": torch.tensor(0.5)},
    "LoKr of factors": {**lokr(w1_a=(4, 2), w1_b=(2, 5), w2_a=(6, 1), w2_b=(1, 4)), "alpha": torch.tensor(2.0)},
    "LoKr of a convolution": lokr(w1=(4, 5), w2=(6, 4, 3, 3)),
    "LoKr with a core": lokr(w1=(4, 5), t2=(2, 3, 3, 3), w2_a=(2, 6), w2_b=(3, 4)),
    "difference": {"diff": values(ROWS, COLUMNS, seed=1)},
    "difference of a convolution": {"diff": values(ROWS, COLUMNS, 3, 3, seed=1).half()},
    "difference beside a bias": {"diff": values(ROWS, COLUMNS, seed=1), "diff_b": values(ROWS, seed=2)},
}
each_kind = pytest.mark.parametrize("tensors", KINDS.values(), ids=KINDS)


def both(tensors: dict[str, Tensor], folder: Path) -> tuple[Lora, Lora]:
    """The LoRA from a file and the one from memory."""
    named = {f"{NAME}.{key}": tensor for key, tensor in tensors.items()}
    safetensors.torch.save_file(named, folder / "a.safetensors")
    return load(folder / "a.safetensors"), from_state_dict(named, "a")


def assert_same(found: Adapter, wanted: Adapter) -> None:
    for fact in ("family", "name", "parameter", "key", "weight_shape", "rank", "scale", "has_factors", "block_weight"):
        assert getattr(found, fact) == getattr(wanted, fact), fact
    assert torch.equal(found.dense(), wanted.dense())
    ours, theirs = found.factors(), wanted.factors()
    assert (ours is None) == (theirs is None)
    assert ours is None or theirs is None or all(map(torch.equal, ours, theirs))
    for (suffix, one), (other_suffix, other) in zip(found.tensors(), wanted.tensors(), strict=True):
        assert (suffix, one.dtype, tuple(one.shape)) == (other_suffix, other.dtype, tuple(other.shape))
        assert torch.equal(one.materialize(), other.materialize()) and one.materialize().dtype == one.dtype


@each_kind
@pytest.mark.parametrize("block_weight", [1.0, -0.5])
def test_a_lazy_adapter_equals_one_in_memory(tensors: dict[str, Tensor], block_weight: float, tmp_path: Path):
    stored, in_memory = both(tensors, tmp_path)
    assert stored.modules.keys() == in_memory.modules.keys()
    for key in stored.modules:
        assert_same(*(with_block_weight(lora.modules[key], block_weight) for lora in (stored, in_memory)))


@each_kind
def test_tensors_stay_in_the_file(tensors: dict[str, Tensor], tmp_path: Path):
    adapter = both(tensors, tmp_path)[0].modules[NAME]
    held = [value.held for _, value in adapter.tensors() if value.held is not None]
    assert sum(value.numel() for value in held) <= 1  # alpha
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(LoraError, match="a.safetensors is gone"):
        adapter.dense()


@pytest.mark.sampled(3)
@each_kind
@pytest.mark.parametrize("mode", ["concat", "add_svd", "ties_svd"])
def test_lazy_and_in_memory_loras_merge_and_save_equal(tensors: dict[str, Tensor], mode: str, tmp_path: Path):
    found, wanted = (
        merge(mode, [lora, lora.with_strengths(0.5, 0.5)], 0.5, rank=4) for lora in both(tensors, tmp_path)
    )
    assert equal(to_state_dict(found), to_state_dict(wanted))
    loras = [lora.with_strengths(0.5, 1.0) for lora in both(tensors, tmp_path)]
    files = [save(lora, tmp_path / f"{n}.safetensors") for n, lora in enumerate(loras)]
    assert equal(*map(safetensors.torch.load_file, files))


def test_a_replaced_weight_stays_a_replacement(tmp_path: Path):
    value = values(ROWS, COLUMNS, seed=1)
    stored, _ = both({"set_weight": value}, tmp_path)
    assert isinstance(stored.modules[NAME], Replacement)
    for mode in ("concat", "ties_svd"):
        merged = merge(mode, [stored, stored.with_strengths(0.5, 0.5)], 0.5, rank=4)
        assert equal(to_state_dict(merged), {f"{NAME}.set_weight": value})


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@each_kind
@pytest.mark.parametrize("step", [1, 5, 7, 24])
def test_rows_equal_those_of_the_dense_delta(tensors: dict[str, Tensor], step: int, tmp_path: Path):
    for lora in both(tensors, tmp_path):
        adapter = lora.modules[NAME]
        whole, rows = adapter.dense(), adapter.rows()
        parts = [rows(start, min(start + step, ROWS)) for start in range(0, ROWS, step)]
        assert all(part.dtype == torch.float32 for part in parts)
        assert torch.allclose(torch.cat(parts), whole, rtol=1e-6, atol=1e-7)


# What is exact is made where it is used


def file_of(folder: Path, name: str, modules: dict[str, tuple[int, int]], seed: int, rank: int = 3) -> Lora:
    lora = make_lora(seed, shapes=modules, ranks=[rank], dtype=torch.float16, name=name)
    return load(save(lora, folder / f"{name}.safetensors"))


FUSED = {
    "lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072),
    "lora_unet_double_blocks_0_img_attn_proj": (3072, 3072),
}
SPLIT = {f"transformer.transformer_blocks.0.attn.to_{part}": (3072, 3072) for part in ("q", "k", "v", "out.0")}
SPLIT["transformer.single_transformer_blocks.0.norm.linear"] = (9216, 3072)  # tells it from Chroma


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of LoRAs' files and what is written, in its order."""
    events: list[str] = []
    read, write = safetensors_file.read, safetensors_file._write_all
    monkeypatch.setattr(safetensors_file, "read", lambda places: events.append("read") or read(places))
    monkeypatch.setattr(safetensors_file, "_write_all", lambda *what: events.append("write") or write(*what))
    monkeypatch.setattr(background_writer, "BATCH_BYTES", 1)
    monkeypatch.setattr(background_writer, "MAX_WAITING", 1)
    return events


EXACT: dict[str, Callable[[list[Lora]], Lora]] = {
    "concat": lambda loras: merge("concat", loras),
    "concat of a concat": lambda loras: merge("concat", [merge("concat", loras), loras[0]]),
    "concat in bfloat16": lambda loras: merge("concat", [loras[0]] * 2, compute=Compute(dtype=torch.bfloat16)),
    "names of PEFT": lambda loras: convert_keys(loras[0], "peft"),
    "names of kohya": lambda loras: convert_keys(loras[1], "kohya"),
}


@pytest.mark.parametrize("operation", EXACT.values(), ids=EXACT)
def test_exact_operations_read_nothing_until_saved_then_one_module_at_a_time(
    operation: Callable[[list[Lora]], Lora], reads: list[str], tmp_path: Path
):
    """Fused and split modules meet in it: rows are cut out and set into."""
    loras = [file_of(tmp_path, "fused", FUSED, 1), file_of(tmp_path, "split", SPLIT, 2)]
    in_memory = [Lora(lora.name, {key: held(module) for key, module in lora.modules.items()}) for lora in loras]
    wanted = to_state_dict(operation(in_memory))
    reads.clear()
    found = operation(loras)
    assert reads == []
    written = save(found, tmp_path / "out.safetensors")
    assert "write" in reads[: len(reads) - reads[::-1].index("read")], "all was read before anything was written"
    assert equal(safetensors.torch.load_file(written), wanted)


def held(module: Adapter) -> LoraModule:
    """The same LoRA module with its factors in memory."""
    assert isinstance(module, LoraModule)
    return LoraModule.of(module.name, up_of(module), down_of(module), module.alpha)


def test_a_merge_reports_overflow_at_once(tmp_path: Path):
    shapes = {"lora_unet_one": (6, 5)}
    loras = [make_lora(seed, shapes=shapes, scale=1e6, name=f"a{seed}") for seed in (1, 2)]
    for lora in (loras, [load(save(lora, tmp_path / f"{lora.name}.safetensors")) for lora in loras]):
        with pytest.raises(LoraError, match="lora_unet_one gave values too large for float16"):
            merge("concat", lora, compute=Compute(dtype=torch.float16))


# Saving one tensor after the other


def watched(count: int, shape: tuple[int, int], broken: int = -1) -> tuple[Lora, list[int]]:
    """A LoRA whose up factors are made when they are asked for, and how many of them are alive at each making."""
    alive: list[int] = []
    living: set[int] = set()

    class Kept:
        def __init__(self, number: int) -> None:
            self.number = number
            living.add(number)

        def __del__(self) -> None:
            living.discard(self.number)

    def maker(number: int) -> Callable[[], Tensor]:
        def make() -> Tensor:
            tensor = torch.full(shape, 7e4 if number == broken else 1.0)
            tensor.kept = Kept(number)  # type: ignore[attr-defined]
            alive.append(len(living))
            return tensor

        return make

    class Made(LoraModule):
        def tensors(self):  # noqa: ANN202
            for suffix, value in super().tensors():
                number = int(self.name.rsplit("_", 1)[1])
                yield suffix, LazyTensor(value.dtype, tuple(value.shape), maker(number)) if "up" in suffix else value

    modules = [Made.of(f"lora_unet_{n}", torch.ones(shape), torch.ones(shape[1], 3), 1.0) for n in range(count)]
    return Lora("watched", {module.name: module for module in modules}), alive


def test_saving_holds_few_tensors_in_memory(tmp_path: Path):
    lora, alive = watched(60, (50, 4))
    written = save(lora, tmp_path / "out.safetensors")
    assert len(alive) == 60 and max(alive) <= 12
    assert torch.equal(load(written).modules["lora_unet_59"].dense(), torch.full((50, 3), 1.0))


def test_overflow_while_writing_is_reported_and_leaves_no_file(tmp_path: Path):
    lora, alive = watched(6, (50, 4), broken=4)
    with pytest.raises(LoraError, match=r"watched: module lora_unet_4 holds values too large for float16"):
        save(lora, tmp_path / "out.safetensors", torch.float16)
    assert len(alive) == 5 and list(tmp_path.iterdir()) == []
