"""Every adapter family and operation: ComfyUI adds the same to a weight for our output as for the inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import resize
from torch import Tensor

State = dict[str, Tensor]
NAME = "diffusion_model.blocks.0.proj"
# linear, 1x1, 3x3
SHAPES: dict[str, tuple[int, ...]] = {"linear": (24, 20), "1x1": (24, 20, 1, 1), "3x3": (16, 8, 3, 3)}


def values(*size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 0.3


def lora(shape: tuple[int, ...], seed: int) -> State:
    kernel = (1,) * (len(shape) - 2)
    return {
        "lora_up.weight": values(shape[0], 3, *kernel, seed=seed),
        "lora_down.weight": values(3, *shape[1:], seed=seed + 1),
        "alpha": torch.tensor(1.5),
    }


def peft(shape: tuple[int, ...], seed: int) -> State:
    kernel = (1,) * (len(shape) - 2)
    return {
        "lora_B.default.weight": values(shape[0], 2, *kernel, seed=seed),
        "lora_A.default.weight": values(2, *shape[1:], seed=seed + 1),
    }


def tucker(shape: tuple[int, ...], seed: int) -> State:
    if len(shape) == 2:
        return lora(shape, seed)
    return {
        "lora_up.weight": values(shape[0], 3, 1, 1, seed=seed),
        "lora_down.weight": values(3, shape[1], 1, 1, seed=seed + 1),
        "lora_mid.weight": values(3, 3, *shape[2:], seed=seed + 2),
        "alpha": torch.tensor(2.0),
    }


def loha(shape: tuple[int, ...], seed: int, rank: int = 2) -> State:
    inputs = torch.Size(shape[1:]).numel()
    sides = itertools.count(seed)
    return {
        "hada_w1_a": values(shape[0], rank, seed=next(sides)),
        "hada_w1_b": values(rank, inputs, seed=next(sides)),
        "hada_w2_a": values(shape[0], rank, seed=next(sides)),
        "hada_w2_b": values(rank, inputs, seed=next(sides)),
        "alpha": torch.tensor(1.0),
    }


def large_loha(shape: tuple[int, ...], seed: int) -> State:
    return loha(shape, seed, rank=5)


def tucker_loha(shape: tuple[int, ...], seed: int) -> State:
    if len(shape) == 2:
        return loha(shape, seed)
    sides = itertools.count(seed)
    tensors = {}
    for n in (1, 2):
        tensors[f"hada_t{n}"] = values(2, 2, *shape[2:], seed=next(sides)) * 2
        tensors[f"hada_w{n}_a"] = values(2, shape[0], seed=next(sides))
        tensors[f"hada_w{n}_b"] = values(2, shape[1], seed=next(sides))
    return tensors | {"alpha": torch.tensor(1.0)}


def lokr(first: str, second: str) -> Callable[[tuple[int, ...], int], State]:
    """``first`` and ``second``: "full" or "factors" for lokr_w1 and lokr_w2; the second can also be "core"."""

    def make(shape: tuple[int, ...], seed: int) -> State:
        rows, columns, kernel = shape[0] // 4, shape[1] // 4, shape[2:]
        tensors: State = {"alpha": torch.tensor(0.7)}
        if first == "full":
            tensors["lokr_w1"] = values(4, 4, seed=seed)
        else:
            tensors |= {"lokr_w1_a": values(4, 2, seed=seed), "lokr_w1_b": values(2, 4, seed=seed + 1)}
        if second == "full":
            tensors["lokr_w2"] = values(rows, columns, *kernel, seed=seed + 2)
        elif second == "core" and kernel:
            tensors |= {
                "lokr_t2": values(2, 3, *kernel, seed=seed + 4),
                "lokr_w2_a": values(2, rows, seed=seed + 2),
                "lokr_w2_b": values(3, columns, seed=seed + 3),
            }
        else:
            inputs = columns * torch.Size(kernel).numel()
            tensors |= {"lokr_w2_a": values(rows, 1, seed=seed + 2), "lokr_w2_b": values(1, inputs, seed=seed + 3)}
        return tensors

    return make


def diff(shape: tuple[int, ...], seed: int) -> State:
    return {"diff": values(*shape, seed=seed)}


def with_bias(shape: tuple[int, ...], seed: int) -> State:
    return lora(shape, seed) | {"diff_b": values(shape[0], seed=seed + 5)}


FAMILIES: dict[str, Callable[[tuple[int, ...], int], State]] = {
    "LoRA": lora,
    "PEFT": peft,
    "Tucker": tucker,
    "LoHa": loha,
    "large LoHa": large_loha,
    "Tucker LoHa": tucker_loha,
    **{
        f"LoKr {first} x {second}": lokr(first, second)
        for first in ("full", "factors")
        for second in ("full", "factors", "core")
    },
    "diff": diff,
    "LoRA with diff_b": with_bias,
}
# without exact factors of a rank below half the matrix: modes on factors refuse them
DENSE = {"large LoHa", "LoKr full x full", "diff"}


@pytest.fixture
def added(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Tensor]]:
    """A function: what ComfyUI adds to a weight and its bias when it loads state dicts one after the other."""
    # ComfyUI's LoKr with a core passes a permuted tensor to torch.kron, which raises ("view size ..."). ComfyUI logs
    # this and adds nothing. The oracle is its formula without this bug.
    kron = torch.kron
    monkeypatch.setattr(torch, "kron", lambda a, b: kron(a.contiguous(), b.contiguous()))

    def add(shape: tuple[int, ...], *loras: tuple[Mapping[str, Tensor], float], name: str = NAME) -> dict[str, Tensor]:
        targets = {name: f"{NAME}.weight"}
        parameters = {
            f"{NAME}.weight": values(*shape, seed=99).to(torch.float64),
            f"{NAME}.bias": values(shape[0], seed=98).to(torch.float64),
        }
        before = {key: tensor.clone() for key, tensor in parameters.items()}
        for state, strength in loras:
            patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(state)), targets, log_missing=False)
            loaded = {key for key in state if not any(key.startswith(f"{name}.") for name in targets)}
            assert not loaded, f"not ours: {loaded}"
            for key, patch in patches.items():
                tensor = comfy.lora.calculate_weight(
                    [(strength, patch, 1.0, None, None)], parameters[key], key, intermediate_dtype=torch.float64
                )
                parameters[key] = tensor
        return {key: parameters[key] - before[key] for key in parameters}

    return add


def named(state: State) -> State:
    return {f"{NAME}.{suffix}": tensor for suffix, tensor in state.items()}


def close(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    for key, tensor in want.items():
        error = torch.linalg.norm(got[key] - tensor)
        assert error <= tolerance * max(float(torch.linalg.norm(tensor)), 1e-12), (key, float(error))
    assert float(torch.linalg.norm(want[f"{NAME}.weight"])) > 1e-3  # ComfyUI loaded it, and it has an effect


def pair(family: str, kind: str) -> tuple[tuple[int, ...], State, State]:
    shape = SHAPES[kind]
    return shape, named(FAMILIES[family](shape, 10)), named(FAMILIES["LoRA"](shape, 30))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
class TestOperations:
    def test_loading_and_saving(self, added, family: str, kind: str, tmp_path: Path):
        shape, state, _ = pair(family, kind)
        written = save(from_state_dict(state, "a").with_strengths(-0.4, 1), tmp_path / "out.safetensors")
        again = to_state_dict(load(written))
        close(added(shape, (again, 1.0)), added(shape, (state, -0.4)))

    def test_concat(self, added, family: str, kind: str):
        shape, state, other = pair(family, kind)
        merged = merge_factors(two(state, other), "concat")
        close(added(shape, (to_state_dict(merged), 1.0)), added(shape, (state, 0.8), (other, -0.5)))

    def test_add_svd_at_full_rank(self, added, family: str, kind: str):
        shape, state, other = pair(family, kind)
        merged = merge_deltas(two(state, other), "add_svd", rank=1000, conv_rank=1000)
        close(added(shape, (to_state_dict(merged), 1.0)), added(shape, (state, 0.8), (other, -0.5)))

    def test_ties_svd_of_one_lora_keeps_the_largest_values(self, added, family: str, kind: str):
        shape, state, _ = pair(family, kind)
        merged = merge_deltas([from_state_dict(state, "a").with_strengths(0.8, 1)], "ties_svd", 0.5, 1000, 1000)
        whole = added(shape, (state, 0.8))
        for key, delta in whole.items():
            flat = delta.flatten()
            keep = flat.abs().argsort(descending=True, stable=True)[: int(0.5 * flat.numel() + 1e-9)]
            whole[key] = torch.zeros_like(flat).index_put((keep,), flat[keep]).reshape(delta.shape)
        close(added(shape, (to_state_dict(merged), 1.0)), whole)

    def test_resizing_to_full_rank(self, added, family: str, kind: str):
        shape, state, _ = pair(family, kind)
        resized = resize(from_state_dict(state, "a").with_strengths(0.8, 1), 1000)
        assert resized.strength_model == 0.8
        close(added(shape, (to_state_dict(resized), 0.8)), added(shape, (state, 0.8)))

    def test_modes_on_factors_refuse_families_without_factors(self, family: str, kind: str):
        _, state, other = pair(family, kind)
        if family in DENSE:
            with pytest.raises(LoraError, match="a: module .*no low-rank factors for the mode ties.*ties_svd"):
                merge_factors(two(state, other), "ties", 0.5)
        else:
            assert NAME in merge_factors(two(state, other), "ties", 0.5).modules


def two(state: State, other: State) -> list[Lora]:
    return [from_state_dict(state, "a").with_strengths(0.8, 1), from_state_dict(other, "b").with_strengths(-0.5, 1)]


def test_every_key_ending_loads_as_in_comfyui(added, comfy: ModuleType):
    import comfy.weight_adapter.lora  # noqa: F401

    endings = {
        "kohya": ("lora_up.weight", "lora_down.weight"),
        "PEFT": ("lora_B.weight", "lora_A.weight"),
        "named": ("lora_B.default.weight", "lora_A.default.weight"),
        "diffusers": ("lora.up.weight", "lora.down.weight"),
        "Mochi": ("lora_B", "lora_A"),
        "old text encoder": ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight"),
    }
    shape = SHAPES["linear"]
    for up, down in endings.values():
        state = named({up: values(shape[0], 3, seed=1), down: values(3, shape[1], seed=2)})
        close(added(shape, (to_state_dict(from_state_dict(state, "a")), 1.0)), added(shape, (state, 1.0)))


def test_a_file_with_several_named_peft_adapters_is_refused():
    shape = SHAPES["linear"]
    state = named({"lora_B.style.weight": values(shape[0], 3, seed=1), "lora_A.style.weight": values(3, 20, seed=2)})
    assert from_state_dict(state, "a").modules[NAME].rank == 3
    state |= named({"lora_B.face.weight": values(shape[0], 3, seed=1), "lora_A.face.weight": values(3, 20, seed=2)})
    with pytest.raises(LoraError, match="several adapters .face, style."):
        from_state_dict(state, "a")


def test_norms_and_biases_are_added_in_every_mode(added):
    def norm(seed: int) -> State:
        return named({"w_norm": values(24, seed=seed), "b_norm": values(24, seed=seed + 1)})

    loras = [from_state_dict(norm(1), "a").with_strengths(0.5, 1), from_state_dict(norm(5), "b").with_strengths(2, 1)]
    want = added((24,), (norm(1), 0.5), (norm(5), 2.0))
    for merged in (
        merge_factors(loras, "concat"),
        merge_factors(loras, "add"),
        merge_deltas(loras, "add_svd", rank=1),
        merge_deltas(loras, "dare_linear_svd", 1.0, rank=1),
    ):
        close(added((24,), (to_state_dict(merged), 1.0)), want)


def test_a_diff_and_a_lora_of_one_weight_become_one_module(added):
    shape, state, other = pair("diff", "linear")
    merged = merge_deltas(two(state, other), "add_svd", rank=1000)
    assert list(merged.modules) == [NAME]
    in_one_file = from_state_dict(state | other, "both")
    assert len(in_one_file.modules) == 1
    close(added(shape, (to_state_dict(in_one_file), 1.0)), added(shape, (state, 1.0), (other, 1.0)))


def test_replaced_weights_are_kept_and_different_ones_refused(added):
    same = named({"set_weight": values(24, 20, seed=3)})
    merged = merge_factors([from_state_dict(same, "a").with_strengths(0.3, 1), from_state_dict(same, "b")], "concat")
    close(added(SHAPES["linear"], (to_state_dict(merged), 1.0)), added(SHAPES["linear"], (same, 0.3)))
    other = named({"set_weight": values(24, 20, seed=4)})
    for pairing in ((same, other), (same, named(lora((24, 20), 1)))):
        with pytest.raises(LoraError, match="a and b can't be merged.*set_weight"):
            merge_factors(two(*pairing), "concat")


@pytest.mark.parametrize(
    ("family", "state"),
    [
        ("DoRA", lora((24, 20), 1) | {"dora_scale": values(24, 1, seed=7).abs() + 1}),
        ("GLoRA", {f"{s}.weight": values(3, 3, seed=1) for s in ("a1", "a2", "b1", "b2")}),
        ("OFT", {"oft_blocks": values(6, 4, 4, seed=1)}),
        ("BOFT", {"oft_blocks": values(2, 6, 4, 4, seed=1), "alpha": torch.tensor(1.0)}),
    ],
)
def test_weight_dependent_modules_are_refused_by_name_and_saved_unchanged(family: str, state: State, tmp_path: Path):
    loaded = from_state_dict(named(state), "a")
    for operation in (
        lambda: merge_factors([loaded]),
        lambda: merge_deltas([loaded]),
        lambda: resize(loaded, 2),
    ):
        with pytest.raises(LoraError, match=f"{family} module {NAME}.*model and clip"):
            operation()
    again = to_state_dict(load(save(loaded, tmp_path / "out.safetensors")))
    assert again.keys() == named(state).keys()
    with pytest.raises(LoraError, match="only be saved at strength 1"):
        save(loaded.with_strengths(0.5, 0.5), tmp_path / "half.safetensors")


def test_flux_control_keeps_its_own_layout(comfy: ModuleType):
    norm = "single_blocks.0.norm.key_norm.scale"
    state = {
        "img_in.lora_A.weight": values(4, 16, seed=1),
        "img_in.lora_B.weight": values(12, 4, seed=2),
        "img_in.lora_B.bias": values(12, seed=3),
        "single_blocks.0.linear1.lora_A.weight": values(4, 12, seed=4),
        "single_blocks.0.linear1.lora_B.weight": values(20, 4, seed=5),
        norm: values(6, seed=6),
    }
    written = to_state_dict(from_state_dict(state, "control"))
    converted, original = (comfy.lora_convert.convert_lora(dict(tensors)) for tensors in (written, state))
    assert {key for key in converted if not key.endswith(".alpha")} == set(original)
    assert all(torch.equal(converted[key], tensor) for key, tensor in original.items())


def test_wan_fun_and_uso_keys_are_renamed_as_in_comfyui(comfy: ModuleType):
    wan = {
        "lora_unet__blocks_0_cross_attn_k.lora_down.weight": values(2, 8, seed=1),
        "lora_unet__blocks_0_cross_attn_k.lora_up.weight": values(8, 2, seed=2),
    }
    uso = {}
    for block, modules in {
        "double_blocks.18": ("qkv_lora1", "qkv_lora2", "proj_lora1", "proj_lora2"),
        "single_blocks.37": ("qkv_lora", "proj_lora"),
    }.items():
        for module in modules:
            uso[f"{block}.processor.{module}.down.weight"] = values(2, 8, seed=1)
            uso[f"{block}.processor.{module}.up.weight"] = values(8, 2, seed=2)
    for state in (wan, uso):
        written = to_state_dict(from_state_dict(state, "a"))
        assert set(comfy.lora_convert.convert_lora(state)) == {key for key in written if not key.endswith(".alpha")}
