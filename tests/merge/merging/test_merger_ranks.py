"""Truncation in PM Merge LoRA SVD: against the best possible error at that rank, and which rank a module gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES
from lora_pack.merge.numerics import blocking
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import (
    CONV1,
    CONV3,
    LINEAR,
    TEXT,
    at,
    down_of,
    each_module,
    make_lora,
    regauged,
    rotation,
    spectral_lora,
    up_of,
)
from lora_pack.tests.support.merging import (
    DENSE_MODES,
    FULL,
    KINDS,
    MIXED,
    assert_best,
    assert_deltas,
    assert_truncated_well,
    expected_delta,
    merge,
    three_loras,
)
from lora_pack.tests.support.oracles.modes import IN_SUBSPACES

SPECTRA = {
    "flat": [1.0] * 12,
    "geometric": [0.7**i for i in range(12)],
    "steep": [10.0 ** (-i / 2) for i in range(12)],
    "one": [3.0],
}
SMALL = {LINEAR: (40, 35), CONV3: (12, 5, 3, 3)}
BIG = (300, 400)  # large enough for the subspace iteration to run at rank 8


@pytest.mark.sampled(5)
@pytest.mark.parametrize("rank", [1, 3, 8, 20])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("mode", DELTA_MODES)
def test_the_truncation_error_is_near_the_least_possible(mode: str, spectrum: str, rank: int):
    for shape in ((40, 30), (25, 45)):
        loras = [at(spectral_lora(shape, SPECTRA[spectrum], seed), 1.0 - 0.4 * seed) for seed in (1, 2)]
        merged = merge(mode, loras, 0.5, rank=rank, seed=5)
        assert merged.modules[LINEAR].rank <= rank
        assert_truncated_well(merged, mode, loras, 0.5, seed=5)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", [*KINDS, MIXED])
@pytest.mark.parametrize("mode", DELTA_MODES)
def test_every_kind_of_weight_is_truncated_well(mode: str, kind: str):
    loras = three_loras(kind)
    for rank in (1, 4):
        merged = merge(mode, loras, 0.6, rank=rank, conv_rank=rank, seed=2)
        assert all(module.rank == rank for module in merged.modules.values())
        assert_truncated_well(merged, mode, loras, 0.6, seed=2)


@pytest.fixture(scope="module")
def big() -> dict[str, tuple[list[Lora], np.ndarray]]:
    """For each mode two LoRAs of rank 8 and the oracle's merge of them."""
    loras = [at(make_lora(s, shapes={LINEAR: BIG}, ranks=[8], scale=0.3), 1.5 - s) for s in (1, 2)]
    return {mode: (loras, expected_delta(mode, loras, LINEAR, 0.3, seed=9)) for mode in DENSE_MODES}


@pytest.mark.parametrize("rank", [1, 8, 40])
@pytest.mark.parametrize("mode", DENSE_MODES)
def test_large_deltas_are_truncated_well(mode: str, rank: int, big: dict[str, tuple[list[Lora], np.ndarray]]):
    loras, whole = big[mode]
    module = merge(mode, loras, 0.3, rank=rank, seed=9).modules[LINEAR]
    assert module.rank == rank
    assert_best(oracle.module_delta(module), rank, whole, mode)


@pytest.mark.parametrize("mode", DENSE_MODES)
def test_large_deltas_in_small_blocks_are_truncated_well(
    mode: str, big: dict[str, tuple[list[Lora], np.ndarray]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocking, "BLOCK_ELEMENTS", 7001)
    loras, whole = big[mode]
    module = merge(mode, loras, 0.3, rank=8, seed=9).modules[LINEAR]
    assert_best(oracle.module_delta(module), 8, whole, mode)


@pytest.mark.parametrize(
    "values", [[1.0] * 16, [0.5**i for i in range(16)], [10.0 ** (-i / 3) for i in range(16)], [2.0]]
)
@pytest.mark.parametrize("rank", [3, 16, 24])
def test_large_deltas_of_low_rank_are_truncated_well(values: list[float], rank: int):
    """The mean of a LoRA with itself has its rank, so a higher rank loses nothing."""
    loras = [at(spectral_lora((260, 220), values, 3), -2.0)] * 2
    assert_truncated_well(merge("ties_svd", loras, 1.0, rank=rank), "ties_svd", loras, 1.0)


def test_large_loras_at_density_1_are_truncated_well():
    loras = [make_lora(s, shapes={LINEAR: (240, 310)}) for s in (1, 2)]
    assert_truncated_well(merge("ties_svd", loras, 1.0, rank=12), "ties_svd", loras, 1.0)


GAUGE = rotation(6, 1) @ torch.diag(torch.logspace(-3, 3, 6, dtype=torch.float64)) @ rotation(6, 2)


@pytest.mark.parametrize("mode", [mode for mode in DELTA_MODES if mode not in IN_SUBSPACES])
def test_ill_conditioned_factors_are_merged_and_truncated_well(mode: str):
    """(B G, G^-1 A) with cond(G) = 1e6."""
    loras = [each_module(make_lora(s, shapes=SMALL, ranks=[6]), lambda m: regauged(m, GAUGE)) for s in (1, 2)]
    for rank in (3, FULL):
        assert_truncated_well(merge(mode, loras, 0.5, rank, rank), mode, loras, 0.5)


@pytest.mark.parametrize("mode", IN_SUBSPACES)
def test_ill_conditioned_factors_have_no_directions_of_their_own(mode: str):
    """Not compared with the oracle: in its dense deltas the rounding of products that cancel looks like directions."""
    plain = [make_lora(s, shapes=SMALL, ranks=[6], dtype=torch.float64) for s in (1, 2)]
    loras = [each_module(lora, lambda m: regauged(m, GAUGE)) for lora in plain]
    for rank in (3, FULL):
        merged, expected = (merge(mode, inputs, 0.5, rank, rank) for inputs in (loras, plain))
        for name, module in merged.modules.items():
            delta = oracle.module_delta(expected.modules[name])
            assert oracle.distance(oracle.module_delta(module), delta) <= 1e-5, name


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("mode", DELTA_MODES)
def test_very_small_and_very_large_values_are_truncated_well(mode: str, scale: float):
    """Factors of 1e-4 give deltas of 1e-8, factors of 1e4 deltas of 1e8."""
    loras = [at(make_lora(s, shapes=SMALL, scale=scale), 0.8) for s in (1, 2)]
    for rank in (3, FULL):
        assert_truncated_well(merge(mode, loras, 0.5, rank, rank), mode, loras, 0.5)


def test_a_very_weak_lora_is_not_lost_next_to_a_very_strong_one():
    loras = [make_lora(s, shapes={LINEAR: (40, 35)}, scale=scale) for s, scale in ((1, 1e2), (2, 1e-2))]
    merged = merge("add_svd", loras)
    assert merged.modules[LINEAR].rank == 8
    assert_deltas(merged, "add_svd", loras, 1.0)


# The rank of a module


@pytest.mark.parametrize("mode", DELTA_MODES)
def test_a_rank_above_that_of_the_matrix_loses_and_pads_nothing(mode: str):
    """Inputs with R > min(m, n), truncated to k >= min(m, n)."""
    loras = [make_lora(seed, shapes={LINEAR: (6, 5), CONV3: (4, 2, 3, 3)}, ranks=[8]) for seed in (1, 2)]
    for rank in (5, 6, 40):
        merged = merge(mode, loras, 0.7, rank, rank)
        assert [module.rank for module in merged.modules.values()] == [5, 4]
        assert_deltas(merged, mode, loras, 0.7)


@pytest.mark.parametrize("mode", DELTA_MODES)
def test_rank_is_for_linear_modules_and_conv_rank_for_larger_kernels(mode: str):
    """1x1 convolutions count as linear; kernels may have any number of dimensions."""
    loras = [make_lora(s, ranks=[5]) for s in (1, 2)]
    merged = merge(mode, loras, 0.8, rank=3, conv_rank=2)
    assert {name: module.rank for name, module in merged.modules.items()} == {
        name: 3 if name in (LINEAR, CONV1, TEXT) else 2 for name in loras[0].modules
    }


@pytest.mark.parametrize("mode", DELTA_MODES)
def test_rank_0_is_the_largest_rank_among_the_inputs_of_that_module(mode: str):
    shapes = {LINEAR: (14, 11), CONV3: (8, 5, 3, 3), TEXT: (12, 8)}
    loras = [make_lora(1, shapes=shapes, ranks=[2, 5, 1]), make_lora(2, shapes=shapes, ranks=[4, 3, 2])]
    ranks = [module.rank for module in merge(mode, loras, 0.8, rank=0, conv_rank=0).modules.values()]
    assert ranks == [4, 5, 2]


def test_a_sum_has_at_most_the_added_ranks_of_its_inputs():
    loras = [make_lora(1, ranks=[2]), make_lora(2, ranks=[3])]
    for inputs, rank in ((loras, 5), (loras[:1], 2), ([loras[1]] * 3, 3)):
        merged = merge("add_svd", inputs, rank=32, conv_rank=32)
        assert {module.rank for module in merged.modules.values()} == {rank}
        assert_deltas(merged, "add_svd", inputs, 1.0)


@pytest.mark.parametrize("mode", DENSE_MODES)
def test_a_rank_is_never_padded_with_zeros(mode: str):
    """A delta of a few elements has a low rank of its own, which bounds the result's."""
    loras = [make_lora(s) for s in (1, 2)]
    for density in (0.02, 0.05, 0.5):
        merged = merge(mode, loras, density, rank=32, conv_rank=32)
        for name, module in merged.modules.items():
            rank = np.linalg.matrix_rank(expected_delta(mode, loras, name, density), rtol=1e-7)
            assert module.rank == max(1, min(32, rank)), (name, density)


@pytest.mark.parametrize("mode", DELTA_MODES)
def test_factors_of_a_truncation_are_balanced(mode: str):
    """Columns of up and rows of down are orthogonal and have equal norms, the roots of the singular values."""
    for module in merge(mode, three_loras("3x3"), 0.7, rank=4, conv_rank=4).modules.values():
        up, down = up_of(module).flatten(1).double(), down_of(module).flatten(1).double()
        values = (up * up).sum(dim=0)
        nothing = 1e-5 * float(values.max())
        assert torch.allclose(up.T @ up, torch.diag(values), rtol=0, atol=nothing)
        assert torch.allclose(down @ down.T, torch.diag(values), rtol=0, atol=nothing)
        assert values.tolist() == sorted(values.tolist(), reverse=True)


def test_concat_adds_up_the_ranks():
    loras = [make_lora(s, ranks=[rank]) for s, rank in ((1, 2), (2, 5), (3, 1))]
    assert {module.rank for module in merge_factors(loras, "concat").modules.values()} == {8}


@pytest.mark.parametrize("mode", [mode for mode in FACTOR_MODES if mode != "concat"])
def test_the_other_factor_modes_have_the_largest_rank(mode: str):
    loras = [make_lora(s, ranks=[rank]) for s, rank in ((1, 2), (2, 5), (3, 1))]
    assert {module.rank for module in merge_factors(loras, mode, 0.8).modules.values()} == {5}


# Blocks of rows


@pytest.mark.parametrize("mode", DENSE_MODES)
def test_the_block_size_does_not_change_the_result(mode: str, monkeypatch: pytest.MonkeyPatch):
    """Blocks of one row, several rows, all rows: the same masks, the same delta except for elements at a threshold."""
    loras = [at(make_lora(s, shapes={LINEAR: (61, 37), CONV3: (23, 5, 3, 3)}), 1.7 - s) for s in (1, 2)]
    expected = merge(mode, loras, 0.4, seed=11)
    for elements in (1, 37 * 5, 1000, 2000):
        monkeypatch.setattr(blocking, "BLOCK_ELEMENTS", elements)
        merged = merge(mode, loras, 0.4, seed=11)
        assert_deltas(merged, mode, loras, 0.4, seed=11, within=1e-3)
        for name, module in merged.modules.items():
            delta, other = (oracle.module_delta(m) for m in (module, expected.modules[name]))
            assert oracle.distance(delta, other) <= 1e-3
            assert np.array_equal(np.abs(delta) < 1e-5, np.abs(other) < 1e-5), "the same elements are zero"


@pytest.mark.parametrize("elements", [1, 100, 999])
@pytest.mark.parametrize("mode", ["ties_svd", "magnitude_prune_svd"])
def test_ties_across_blocks_are_resolved_by_position(mode: str, elements: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocking, "BLOCK_ELEMENTS", elements)
    loras = [make_lora(s, whole=True) for s in (1, 2)]
    assert_deltas(merge(mode, loras, 0.3), mode, loras, 0.3)
