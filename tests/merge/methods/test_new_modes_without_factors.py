"""The modes of PM Merge LoRA SVD beyond PEFT's on adapters without factors: full differences, biases and norms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Difference, Lora, by_key
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import LINEAR, make_module
from lora_pack.tests.support.merging import EXACT, FULL
from lora_pack.tests.support.oracles import modes

SHAPE = (14, 11)
STRENGTHS = [0.8, -0.6, 1.1]
# Draws at a density below 1 are tested on LoRAs; here density 1 keeps everything.
MODES_AND_DENSITIES = [(mode, 1.0) for mode in modes.MODES]
MODES_AND_DENSITIES += [(mode, 0.6) for mode in modes.WITH_DENSITY if mode not in modes.DRAWING]


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def loras_of(adapters: Sequence) -> list[Lora]:
    return [
        Lora(f"lora{i}", by_key([adapter]), strength, strength)
        for i, (adapter, strength) in enumerate(zip(adapters, STRENGTHS, strict=False), 1)
    ]


def expected(mode: str, deltas: Sequence[np.ndarray], density: float) -> np.ndarray:
    def keep_all(t: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)

    return modes.merge(mode, deltas, STRENGTHS[: len(deltas)], density=density, draw=keep_all)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("mode, density", MODES_AND_DENSITIES)
def test_vectors(mode: str, density: float, count: int):
    """Modes that read directions give the plain sum of vectors, the others take them as one row."""
    values = [noise((40,), seed) for seed in range(count)]
    merged = merge_deltas(loras_of([Difference.of(LINEAR, v, "bias") for v in values]), mode, density)
    (vector,) = merged.modules.values()
    assert isinstance(vector, Difference) and vector.weight_shape == (40,)
    found = vector.value.materialize().double().numpy()
    assert oracle.distance(found, expected(mode, [v.double().numpy() for v in values], density)) <= EXACT


@pytest.mark.parametrize("others", ["a LoRA", "a difference", "nothing"])
@pytest.mark.parametrize("mode, density", MODES_AND_DENSITIES)
def test_full_differences(mode: str, density: float, others: str):
    """A difference has directions too: all of its rows and columns.

    A LoRA beside it keeps its own rank: in a dense float32 delta its rounding would count as further directions.
    """
    value, module = noise(SHAPE, 1), make_module(LINEAR, SHAPE, 3, 2)
    adapters, deltas = [Difference.of(LINEAR, value)], [value.double().numpy()]
    if others == "a LoRA":
        adapters, deltas = [*adapters, module], [*deltas, oracle.module_delta(module)]
    elif others == "a difference":
        adapters, deltas = (
            [*adapters, Difference.of(LINEAR, noise(SHAPE, 3))],
            [*deltas, noise(SHAPE, 3).double().numpy()],
        )
    (found,) = merge_deltas(loras_of(adapters), mode, density, FULL).modules.values()
    up, down = found.factors() or (found.dense(), torch.eye(SHAPE[1]))
    merged = found.scale * (up.double() @ down.double()).numpy()
    assert oracle.distance(merged, expected(mode, deltas, density)) <= EXACT
