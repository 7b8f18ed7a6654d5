"""The data model: values that nothing changes, and what their strengths count for."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.errors import LoraError
from lora_pack.merge.numerics.finite import require_finite
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    CONV1,
    CONV3,
    CONV_1D,
    CONV_3D,
    LINEAR,
    SHAPES,
    TEXT,
    as_matrix,
    down_of,
    make_lora,
    make_module,
    up_of,
)


def test_adapters_and_loras_are_immutable():
    lora = make_lora(1, metadata={"a": "1"})
    module = lora.modules[LINEAR]
    for value, name in ((lora, "name"), (lora, "strength_model"), (module, "alpha"), (module, "up")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 1)
    for mapping in (lora.modules, lora.metadata):
        with pytest.raises(TypeError):
            mapping["x"] = module  # type: ignore[index]
        with pytest.raises(TypeError):
            del mapping[next(iter(mapping))]


@pytest.mark.parametrize("strengths", [(0.0, -0.0), (-1.0, 1.0)])
def test_strength_0_has_no_sign(strengths: tuple[float, float]):
    """A recipe would have -0.0, but the loader that makes the same LoRA has 0."""
    lora = make_lora(1).with_strengths(-1.0, 0.0).with_strengths(*strengths).with_strengths(0.0, -0.0)
    assert [math.copysign(1, strength) for strength in (lora.strength_model, lora.strength_clip)] == [1, 1]


def test_a_lora_copies_its_mappings():
    modules: dict[str, Any] = {LINEAR: make_module(LINEAR, (4, 3), 2, 1)}
    metadata = {"a": "1"}
    lora = Lora("x", modules, metadata=metadata)
    modules.clear()
    metadata["b"] = "2"
    assert list(lora.modules) == [LINEAR] and dict(lora.metadata) == {"a": "1"}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_rank_and_scale_of_a_module(name: str):
    module = make_module(name, SHAPES[name], 3, 1, alpha=1.5)
    assert (module.rank, module.scale, module.weight_shape) == (3, 0.5, SHAPES[name])
    assert module.is_convolution == (name in (CONV3, CONV_1D, CONV_3D))
    rows, columns = SHAPES[name][0], math.prod(SHAPES[name][1:])
    assert up_of(module).flatten(1).shape == (rows, 3) and down_of(module).flatten(1).shape == (
        3,
        columns,
    )
    delta = module.scale * up_of(module).flatten(1).double() @ down_of(module).flatten(1).double()
    assert oracle.distance(delta.numpy(), oracle.module_delta(module)) < 1e-12
    assert not as_matrix(make_module(CONV1, SHAPES[CONV1], 3, 1)).is_convolution


def test_strengths_and_block_weights_multiply():
    lora = make_lora(1, strength_model=0.5, strength_clip=-3.0, block_weight=2.0)
    assert {name: lora.strength_of(module) for name, module in lora.modules.items()} == {
        name: -6.0 if name == TEXT else 1.0 for name in SHAPES
    }
    twice = lora.with_strengths(2.0, 0.0)
    assert (twice.strength_model, twice.strength_clip) == (1.0, 0.0)
    assert (lora.strength_model, lora.strength_clip) == (0.5, -3.0), "the value it was made from stays"


def test_baking_moves_strengths_into_block_weights():
    lora = make_lora(1, strength_model=0.5, strength_clip=0.0, block_weight=2.0)
    baked = lora.baked()
    assert (baked.strength_model, baked.strength_clip) == (1.0, 1.0)
    assert list(baked.modules) == [name for name in SHAPES if name != TEXT], "what counts nothing is left out"
    assert {module.block_weight for module in baked.modules.values()} == {1.0}
    assert up_of(lora.baked().modules[LINEAR]) is up_of(lora.modules[LINEAR]), "no tensor is copied"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_refused_in_every_dtype(dtype: torch.dtype, value: float):
    good = torch.tensor([1.0, -2.0, 0.0]).to(dtype)
    require_finite(good, "it")
    require_finite(torch.empty(0, dtype=dtype), "it")
    with pytest.raises(LoraError, match="this one"):
        require_finite(torch.tensor([1.0, value, 0.0]).to(dtype), "this one")
    many = torch.ones(100_000).to(dtype)  # looked at in another way
    require_finite(many, "they")
    many[-1] = value
    with pytest.raises(LoraError, match="this one holds NaN or infinite"):
        require_finite(many, "this one")
    require_finite(torch.tensor([1, 2]), "whole numbers are always finite")


def test_an_error_is_a_value_error():
    assert issubclass(LoraError, ValueError)
    assert isinstance(make_lora(1).modules[LINEAR], LoraModule)
