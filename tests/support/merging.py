"""Merging in any mode and comparing with the oracle, shared by the tests of the mergers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import CPU, Compute
from lora_pack.merge.merging.key_resolver import resolver_for
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import CONV1, TEXT, as_matrix, at, drawn_masks, make_lora
from lora_pack.tests.support.oracles import modes, whole_loras

# Allowed errors, relative to the norm of the expected result.
EXACT = 5e-6
FACTORS = 1e-5
NOTHING = 1e-6  # where the best possible error is zero

ALL_MODES = (*FACTOR_MODES, *DELTA_MODES)
SUMS = ("add_svd",)  # the modes of PM Merge LoRA SVD that are exact before truncation
# Modes whose result is truncated from a small core, with no more error than rounding.
FROM_A_CORE = (*SUMS, "karcher_svd", *modes.IN_SUBSPACES)
DENSE_MODES = tuple(mode for mode in DELTA_MODES if mode not in SUMS)
FULL = 10_000  # above the rank of any matrix in the tests

# kind of weight -> its shape
KINDS = {"linear": (24, 17), "1x1": (15, 21, 1, 1), "3x3": (10, 6, 3, 3), "1-D": (9, 7, 3), "3-D": (8, 3, 2, 3, 2)}
MIXED = "1x1 and matrix"


def three_loras(kind: str) -> list[Lora]:
    """LoRAs with different ranks, alphas and strengths, not all with the text encoder's module."""
    shape = KINDS["1x1"] if kind == MIXED else KINDS[kind]
    first = make_lora(1, shapes={CONV1: shape, TEXT: (13, 9)}, ranks=[3, 4], alphas=[1.5, 8.0])
    second = make_lora(2, shapes={TEXT: (13, 9), CONV1: shape}, ranks=[5, 2], alphas=[None, -3.0])
    third = make_lora(3, shapes={CONV1: shape}, ranks=[4], alphas=[16.0])
    if kind == MIXED:
        second = replace(second, modules={**second.modules, CONV1: as_matrix(second.modules[CONV1])})
    return [at(first, 0.8, -0.5), at(second, -0.7, 1.25), at(third, 1.3)]


def plain(mode: str) -> str:
    return mode.removesuffix("_svd")


def masks_for(mode: str, seed: int, loras: Sequence[Lora], name: str, density: float) -> oracle.Masks | None:
    if "dare" not in mode:
        return None
    return drawn_masks(seed, resolver_for(loras).resolve(name).weight, density)


def merge(
    mode: str,
    loras: Sequence[Lora],
    density: float = 0.6,
    rank: int = FULL,
    conv_rank: int = FULL,
    seed: int = 0,
    compute: Compute = CPU,
) -> Lora:
    """Merge with the merger that has the mode; delta modes at full rank by default."""
    if mode in FACTOR_MODES:
        return merge_factors(loras, mode, density, seed, compute)
    return merge_deltas(loras, mode, density, rank, conv_rank, seed, compute)


def expected_delta(mode: str, loras: Sequence[Lora], name: str, density: float, seed: int = 0) -> np.ndarray:
    """What the merge adds to one weight, before truncation."""
    if mode not in FACTOR_MODES:
        return whole_loras.expected_delta(mode, loras, name, density, seed)
    adapters = oracle.parts(loras)[name]
    up, down = oracle.merged_factors(mode, adapters, density, masks_for(mode, seed, loras, name, density))
    return up @ down


def assert_factors(merged: Lora, mode: str, loras: Sequence[Lora], density: float, seed: int = 0) -> None:
    expected = oracle.parts(loras)
    assert list(merged.modules) == list(expected)
    for name, adapters in expected.items():
        up, down = oracle.merged_factors(mode, adapters, density, masks_for(mode, seed, loras, name, density))
        module = oracle.part(merged.modules[name])
        if not (np.any(up) and np.any(down)):  # one side has lost everything, so the product is zero
            assert not np.any(oracle.delta(module)), name
            continue
        assert (module.up.shape, module.down.shape) == (up.shape, down.shape), name
        assert oracle.distance(module.up, up) <= FACTORS, name
        assert oracle.distance(module.down, down) <= FACTORS, name
        assert module.scale == 1.0, name


def assert_deltas(
    merged: Lora, mode: str, loras: Sequence[Lora], density: float, seed: int = 0, within: float = NOTHING
) -> None:
    assert list(merged.modules) == list(oracle.parts(loras))
    for name, module in merged.modules.items():
        expected = expected_delta(mode, loras, name, density, seed)
        assert oracle.distance(oracle.module_delta(module), expected) <= within, name


def assert_merged(merged: Lora, mode: str, loras: Sequence[Lora], density: float, seed: int = 0) -> None:
    """Equal to the oracle: factor by factor, or the deltas for delta modes at full rank."""
    if mode in FACTOR_MODES:
        assert_factors(merged, mode, loras, density, seed)
    else:
        assert_deltas(merged, mode, loras, density, seed)


def assert_truncated_well(merged: Lora, mode: str, loras: Sequence[Lora], density: float, seed: int = 0) -> None:
    assert list(merged.modules) == list(oracle.parts(loras))
    for name, module in merged.modules.items():
        assert_best(oracle.module_delta(module), module.rank, expected_delta(mode, loras, name, density, seed), mode)


def assert_best(truncated: np.ndarray, rank: int, whole: np.ndarray, mode: str) -> None:
    """The error is near the least possible at this rank. Float32 rounding may add NOTHING of the norm."""
    error = float(np.linalg.norm(truncated - whole))
    most = 1.00001 if mode in FROM_A_CORE else 1.01
    allowed = math.hypot(most * oracle.best_error(whole, rank), NOTHING * float(np.linalg.norm(whole)))
    assert error <= allowed, f"error {error:.6g}, at rank {rank} at most {allowed:.6g}"
