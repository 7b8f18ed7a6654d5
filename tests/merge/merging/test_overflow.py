"""Infinity never leaves the core: saving, applying or merging values that overflow is refused, naming the module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.merge.numerics import finite
from lora_pack.tests.support.families import (
    CONVOLUTION,
    DENSE,
    FAMILIES,
    MULTIPLIED,
    NAME,
    OVERFLOWING,
    State,
    as_dtype,
    named,
    scaled,
)
from lora_pack.tests.support.makers import make_lora
from lora_pack.tests.support.merging import ALL_MODES, merge
from lora_pack.tools.make_lora import small_modules
from torch import Tensor

HALF, SHORT, WHOLE = torch.float16, torch.bfloat16, torch.float32


def are_finite(tensors: Mapping[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors.values())


def read(state: State, tmp_path: Path | None = None) -> Lora:
    """A state dict as a LoRA, in memory or lazily from a file."""
    if tmp_path is None:
        return from_state_dict(state, "large")
    safetensors.torch.save_file(
        {key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "large.safetensors"
    )
    return load(tmp_path / "large.safetensors")


def saved(lora: Lora, folder: Path, dtype: torch.dtype | None = None, style=None) -> dict[str, Tensor]:
    return safetensors.torch.load_file(save(lora, folder / "out.safetensors", dtype, style=style))


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("family", MULTIPLIED)
def test_a_strength_that_overflows_float16_is_refused(family: str, in_file: bool, tmp_path: Path):
    """A float16 .diff of 10000 at strength 10 was once written as infinity."""
    state = OVERFLOWING[family]
    lora = read(state, tmp_path if in_file else None).with_strengths(100, 100)
    (name,) = (module.name for module in lora.modules.values())
    for write in (lambda: saved(lora, tmp_path), lambda: to_state_dict(lora.baked())):
        with pytest.raises(LoraError, match=f"{name} holds values too large for float16. Choose float32"):
            write()
    for dtype in (None, WHOLE):  # at most what float16 can store; or float32, as the message advises
        assert are_finite(saved(lora.with_strengths(0.01, 0.01), tmp_path, dtype))
    mild = read(scaled(FAMILIES[family](1), 0.5, HALF)).with_strengths(100, 100)
    assert are_finite(saved(mild, tmp_path)), "values that fit must be written"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [HALF, SHORT, WHOLE, torch.float8_e4m3fn], ids=str)
def test_values_are_written_finite_or_refused(family: str, dtype: torch.dtype, tmp_path: Path):
    """At any strength, size and precision, with and without conversion."""
    refused = written = 0
    for size in (1.0, 100.0, 3e4 if dtype == HALF else 3e18):
        state = scaled(FAMILIES[family](3), size, dtype)
        if not are_finite(state):
            continue
        for strength in (0.5, -1.0, 3.0, 1e4, 1e39):
            try:
                lora = read(state).with_strengths(strength, strength)
            except LoraError as error:  # a Tucker core that overflows when it is folded in
                assert "too large" in str(error) and "Tucker" in family
                continue
            for target in (None, HALF, SHORT):
                try:
                    tensors = to_state_dict(lora.baked(), target)
                except LoraError as error:
                    refused += 1
                    assert "too large for" in str(error) and "lora_unet_" in str(error)
                else:
                    written += 1
                    assert are_finite(tensors)
    assert refused and written


@pytest.mark.parametrize("dtype", [HALF, SHORT])
def test_a_scale_that_overflows_in_a_peft_file_is_refused(dtype: torch.dtype, tmp_path: Path):
    """PEFT's files have no alpha, so the scale goes into the tensors; a scale of 1000 once made 38 of them infinite."""
    state: State = {}
    for name, rows, columns, _ in small_modules()[:5]:
        state |= {f"{name}.lora_up.weight": torch.full((rows, 2), 100.0), f"{name}.alpha": torch.tensor(2000.0)}
        state |= {f"{name}.lora_down.weight": torch.ones(2, columns)}
    lora = read(as_dtype(state, dtype))
    if dtype == HALF:
        with pytest.raises(LoraError, match="module .* holds values too large for float16"):
            saved(lora, tmp_path, style="peft")
        assert not list(tmp_path.iterdir())
    assert are_finite(saved(lora, tmp_path, WHOLE, style="peft"))


def test_a_strength_that_overflows_float16_can_be_saved_in_a_wider_precision(tmp_path: Path):
    """The advice of the message must help: the product is not rounded to float16 first."""
    for family in MULTIPLIED:
        state = OVERFLOWING[family]
        for lora in (read(state), read(state, tmp_path)):
            found = saved(lora.with_strengths(100, 100), tmp_path, SHORT)
            largest = max(found.values(), key=lambda tensor: float(tensor.abs().max()))
            products = [(tensor.float() * 100).to(SHORT) for tensor in state.values() if tensor.shape == largest.shape]
            assert any(torch.equal(largest, product) for product in products), family


def test_a_loha_that_overflows_as_a_lora_is_refused(tmp_path: Path):
    name, rows, columns, _ = small_modules()[1]
    numbers = {f"hada_{part}": torch.full(shape, 1e20) for part, shape in (("w1_a", (rows, 1)), ("w2_a", (rows, 1)))}
    numbers |= {f"hada_{part}": torch.ones(1, columns) for part in ("w1_b", "w2_b")}
    lora = read(named(name, **numbers) | read_names())
    assert are_finite(saved(lora, tmp_path))  # its own tensors are fine
    with pytest.raises(LoraError, match="holds values too large for float32. Lower its strength"):
        saved(lora, tmp_path, style="peft")


def read_names() -> State:
    """Modules that identify the architecture."""
    state: State = {}
    for name, rows, columns, _ in small_modules()[2:]:
        state |= {f"{name}.lora_up.weight": torch.ones(rows, 1), f"{name}.lora_down.weight": torch.ones(1, columns)}
    return state


@pytest.mark.parametrize("family", ["LoRA", "LoHa", "LoKr"])
def test_an_alpha_that_float32_can_t_hold_is_refused(family: str, tmp_path: Path):
    state = FAMILIES[family](1)
    state[f"{NAME}.alpha"] = torch.tensor(1e38)
    lora = read(state).with_strengths(10, 10)
    for write in (lambda: saved(lora, tmp_path), lambda: to_state_dict(lora.baked())):
        with pytest.raises(LoraError, match=f"{NAME} holds values too large for float32"):
            write()


def test_values_that_overflow_when_a_file_is_read_are_refused():
    huge = torch.full((4, 3), 3e38)
    twice = {"unet.a.diff": huge, "lora_unet_a.diff": huge}
    with pytest.raises(LoraError, match="large: module .* too large for float32"):
        read(twice)
    core = named(CONVOLUTION, lora_up__weight=torch.ones(4, 2, 1, 1), lora_mid__weight=torch.full((2, 2, 3, 3), 1e20))
    with pytest.raises(LoraError, match=f"large: module {CONVOLUTION} .*too large for float32"):
        read(core | named(CONVOLUTION, lora_down__weight=torch.full((2, 3, 1, 1), 1e20)))


OPERATIONS = {
    **{mode: lambda loras, mode=mode: merge(mode, loras, 0.7, rank=3, conv_rank=3) for mode in ALL_MODES},
    **{
        f"resize {one}": lambda loras, one=one: resize(loras[0], 2, 2, one, 2.0 if one == "sv_ratio" else 0.9)
        for one in METHODS
    },
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("family", ["LoHa", "LoKr", "dense LoHa", "whole LoKr", "Tucker LoHa", "Tucker LoKr"])
def test_a_product_that_overflows_is_refused_naming_the_module(operation: str, family: str):
    """Every value in the file is finite, but the products are not; LAPACK must not be the one to complain."""
    loras = [read(scaled(FAMILIES[family](seed), 1e20, WHOLE)) for seed in (1, 50)]
    on_factors = operation in ("add", "ties", "dare_linear", "dare_ties", "magnitude_prune")
    if on_factors and family in DENSE:
        return  # refused because they have no factors
    name = CONVOLUTION if "Tucker" in family else NAME
    with pytest.raises(LoraError, match=rf"module {name} gave values too large for float32"):
        OPERATIONS[operation](loras)


def test_values_that_can_t_overflow_are_not_checked_when_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Saving is bound by the disk; a pass over all values would be noticeable."""
    checked: list[int] = []
    original = finite.is_finite

    def noted(tensor: Tensor) -> bool:
        checked.append(tensor.numel())
        return original(tensor)

    in_half = [read(as_dtype(state_of(seed), HALF)) for seed in (1, 2)]
    strong = merge("concat", [lora.with_strengths(0.5, 0.5) for lora in in_half])
    bare = make_lora(3, dtype=SHORT)
    weak = read(as_dtype(FAMILIES["full difference"](1), HALF)).with_strengths(0.5, 0.5)
    monkeypatch.setattr(finite, "is_finite", noted)
    for lora in (strong, bare, weak):
        saved(lora, tmp_path)
    assert max(checked) == 1  # alphas
    saved(weak.with_strengths(4, 4), tmp_path)
    assert max(checked) > 1


def state_of(seed: int) -> State:
    return {key: value for family in ("LoRA", "LoRA 3x3") for key, value in FAMILIES[family](seed).items()}


def test_a_merge_known_to_be_finite_is_not_checked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    merged = merge("concat", [make_lora(1), make_lora(2).with_strengths(3, 3)], compute=Compute(dtype=WHOLE))
    monkeypatch.setattr(finite, "is_finite", lambda tensor: tensor.numel() == 1 or pytest.fail("checked again"))
    saved(merged, tmp_path)


def test_a_trainer_s_scale_that_overflows_is_refused_when_the_file_is_read():
    """For a LoKr of two full matrices the scale goes into the tensors, since no program reads its alpha."""
    name = "unet.mid_block.attn"
    tensors = {f"{name}.lokr_w1": torch.full((2, 3), 1e30), f"{name}.lokr_w2": torch.ones(3, 5)}
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 1, "unet.lora_alpha": 1e20})}
    with pytest.raises(LoraError, match=rf"large: module {name} \(lokr_w1\) holds values too large for float32"):
        from_state_dict(tensors, "large", header)
