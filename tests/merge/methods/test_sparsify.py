"""Sparsifiers on small matrices worked by hand, and on random ones against a sort and statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.methods.blocked_matrix import in_blocks
from lora_pack.merge.methods.kernels import Sparsifier, keep_all
from lora_pack.merge.methods.mask_stream import MaskStream
from lora_pack.merge.methods.sparsify import dropout_rescale, kept_count, prune_magnitude
from lora_pack.merge.methods.threshold import kth_by_digits, kth_by_partition
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import examples
from lora_pack.tests.support.masking import STREAM, random_mask, sigmas, sparse


@pytest.mark.parametrize(
    "density, n, kept",
    [
        (0.0, 100, 0),
        (1.0, 100, 100),
        (0.29, 100, 29),  # int(0.29 * 100) is 28
        (0.57, 100, 57),
        (0.58, 50, 29),
        (1 / 3, 3, 1),
        (0.999, 10, 9),
        (0.05, 10, 0),
        (0.1, 10, 1),
        (0.5, 7, 3),
        (0.7, 1, 0),
        (1.0, 1, 1),
        (0.5, 2**33 + 1, 2**32),
        (0.5, 0, 0),
    ],
)
def test_a_density_keeps_as_many_elements_as_it_says(density: float, n: int, kept: int):
    assert kept_count(density, n) == kept


PRUNED = [
    # matrix, density, what stays
    ([[3, -1], [2, -4]], 0.5, [[3, 0], [0, -4]]),
    ([[3, -1], [2, -4]], 0.25, [[0, 0], [0, -4]]),
    ([[3, -1], [2, -4]], 0.75, [[3, 0], [2, -4]]),
    ([[3, -1], [2, -4]], 1.0, [[3, -1], [2, -4]]),
    ([[3, -1], [2, -4]], 0.0, [[0, 0], [0, 0]]),
    ([[3, -1], [2, -4]], 0.24, [[0, 0], [0, 0]]),
    # ties: the first in row order
    ([[1, -1], [1, -1]], 0.5, [[1, -1], [0, 0]]),
    ([[1, -1], [1, -1]], 0.75, [[1, -1], [1, 0]]),
    ([[1, 2, 1], [-1, 1, -3]], 0.5, [[1, 2, 0], [0, 0, -3]]),
    ([[1, 2, 1], [-1, 1, -3]], 4 / 6, [[1, 2, 1], [0, 0, -3]]),
    ([[-2, 5], [2, 2], [-2, 1]], 0.5, [[-2, 5], [2, 0], [0, 0]]),
    # zeros stay zeros, also where they are among the largest
    ([[0, 0], [0, 0]], 0.5, [[0, 0], [0, 0]]),
    ([[0, 0], [0, 7]], 0.75, [[0, 0], [0, 7]]),
    ([[0, 3], [0, 7]], 0.5, [[0, 3], [0, 7]]),
    ([[0, 3], [-3, 3]], 0.5, [[0, 3], [-3, 0]]),
    ([[1e-42, 3e-42], [-2e-42, 0]], 0.5, [[0, 3e-42], [-2e-42, 0]]),  # below the normal range
    ([[3e38, 1e38], [-2e38, 0]], 0.5, [[3e38, 0], [-2e38, 0]]),
    ([[5]], 1.0, [[5]]),
    ([[5]], 0.9, [[0]]),
]


@pytest.mark.parametrize("matrix, density, kept", PRUNED)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_pruning_keeps_the_largest_and_of_ties_the_first(matrix: list, density: float, kept: list, rows: int):
    assert sparse(prune_magnitude, torch.tensor(matrix).float(), density, rows).tolist() == torch.tensor(kept).tolist()


@examples(150)
@given(
    st.integers(1, 40), st.integers(1, 30), st.floats(0, 1), st.integers(1, 40), st.integers(0, 999), st.integers(0, 3)
)
def test_pruning_keeps_what_a_stable_sort_puts_first(m: int, n: int, density: float, rows: int, seed: int, kind: int):
    """Exactly the elements that a sort by magnitude and position keeps, in blocks of any size, with many ties."""
    noise = torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
    matrix = [noise, noise.round(), noise.bfloat16().float(), torch.where(noise > 0.3, noise, 0.0)][kind]
    expected = oracle.largest(matrix.double().numpy(), density)
    assert np.array_equal(sparse(prune_magnitude, matrix, density, rows).double().numpy(), expected)


@pytest.mark.fuzz
@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 1e-45, 1e-38, -3e38, 0.1]), min_size=2, max_size=60),
    st.integers(1, 59),
    st.integers(1, 9),
)
@examples(300)
def test_the_threshold_searches_for_cpu_and_gpu_agree(values: list[float], k: int, rows: int):
    """The one for GPUs runs on the CPU too."""
    matrix = torch.tensor(values)[:, None]
    k = min(k, len(values) - 1)
    threshold, kept, tied = kth_by_digits(in_blocks(matrix, rows), k)
    magnitudes = sorted(matrix.abs().reshape(-1).tolist(), reverse=True)
    assert threshold == magnitudes[k - 1]
    assert tied == magnitudes.count(threshold) and kept == k - sum(m > threshold for m in magnitudes)
    other, also_kept, also_tied = kth_by_partition(in_blocks(matrix, rows), k)
    assert other == threshold and also_tied - also_kept == tied - kept
    assert also_kept == kept or also_tied == also_kept  # not counted where all of that magnitude are kept


@pytest.mark.slow
def test_pruning_counts_exactly_beyond_2_to_the_24_ties():
    """2^24 + 3 equal magnitudes: a count in float32 would stop at 2^24."""
    n = 2**24 + 3
    matrix = torch.ones(1, n)
    matrix[0, ::2] = -1
    kept = sparse(prune_magnitude, matrix, (n - 2) / n)
    assert kept.count_nonzero() == n - 2
    assert kept[0, -3:].tolist() == [-1, 0, 0]


def test_sparsifiers_do_not_write_into_their_input():
    matrix = torch.randn(6, 5)
    before = matrix.clone()
    for sparsify in (keep_all, prune_magnitude, dropout_rescale):
        for density in (0.0, 0.5, 1.0):
            sparse(sparsify, matrix, density)
    assert torch.equal(matrix, before)


def test_keep_all_ignores_the_density():
    matrix = torch.randn(6, 5)
    for density in (0.0, 0.5, 1.0):
        assert torch.equal(sparse(keep_all, matrix, density), matrix)


# Random masks


@pytest.mark.parametrize("density", [0.01, 0.1, 0.29, 0.5, 0.9, 0.999])
def test_dropout_keeps_a_share_equal_to_the_density(density: float):
    n = 200_000
    kept = int(random_mask(STREAM, density, (400, 500)).sum())
    assert sigmas(kept, n, density) < 5


def test_dropout_favours_no_row_or_column():
    mask = random_mask(STREAM, 0.3, (300, 300)).double()
    for sums in (mask.sum(0), mask.sum(1)):
        assert all(sigmas(float(hits), 300, 0.3) < 5 for hits in sums)


@pytest.mark.parametrize("density", [0.1, 0.29, 0.5, 0.7])
def test_kept_elements_are_divided_by_the_density(density: float):
    matrix = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    kept = sparse(dropout_rescale, matrix, density)
    stays = kept != 0
    assert 0 < int(stays.sum()) < matrix.numel()
    assert torch.allclose(kept[stays], (matrix.double() / density).float()[stays], rtol=2e-7, atol=0)


def test_dropout_is_unbiased_over_seeds():
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    density, seeds = 0.4, 400
    sparsified = [
        sparse(dropout_rescale, matrix, density, stream=MaskStream(seed, "w", 1, "up")) for seed in range(seeds)
    ]
    mean = torch.stack(sparsified).double().mean(0)
    deviation = matrix.double().abs() * math.sqrt((1 / density - 1) / seeds)
    assert float(((mean - matrix).abs() / deviation).max()) < 5


def test_dropout_is_exact_at_density_0_and_1_and_finite_near_them():
    matrix = torch.randn(9, 9)
    assert torch.equal(sparse(dropout_rescale, matrix, 1.0), matrix)
    zeros = sparse(dropout_rescale, matrix, 0.0)
    assert not zeros.any() and not zeros.isnan().any()
    for density in (1e-300, 1e-12, math.nextafter(1.0, 0.0)):
        assert torch.isfinite(sparse(dropout_rescale, matrix, density)).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 32])
def test_a_random_mask_does_not_depend_on_the_blocks(rows: int):
    for shape in ((32, 17), (33, 8), (5, 1)):
        assert torch.equal(random_mask(STREAM, 0.4, shape, rows), random_mask(STREAM, 0.4, shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sparsify", [prune_magnitude, dropout_rescale])
def test_a_gpu_keeps_the_same_elements_as_the_cpu(sparsify: Sparsifier):
    for matrix in (torch.randn(300, 200), torch.randn(300, 200).round(), torch.randn(300, 200).bfloat16().float()):
        kept = sparse(sparsify, matrix, 0.37, rows=70)
        assert torch.equal(sparse(sparsify, matrix.cuda(), 0.37, rows=70).cpu() != 0, kept != 0)
