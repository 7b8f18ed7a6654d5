"""The parts of merge modes on small matrices worked by hand, and what a random mask may and may not depend on."""

from __future__ import annotations

import hashlib
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.methods.blocks import Blocks, MaskStream
from lora_pack.merge.methods.consensus import disjoint_mean, weighted_sum
from lora_pack.merge.methods.sparsify import (
    Sparsifier,
    dropout_rescale,
    keep_all,
    kept_count,
    kth_by_digits,
    kth_by_partition,
    prune_magnitude,
)
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import examples
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]
DRAW = MaskStream(seed=1, weight="model:x", input_index=1, side="delta")


def blocks_of(matrix: Tensor, rows: int) -> Blocks:
    return Blocks(matrix.numel(), lambda: iter(matrix.split(rows)))


def sparse(sparsify: Sparsifier, matrix: Tensor, density: float, rows: int = 10**9, draw: MaskStream = DRAW) -> Tensor:
    """The sparsified matrix, worked in blocks of this many rows."""
    blocks = blocks_of(matrix, rows)
    mask = sparsify(blocks, density, draw)
    done, start = [], 0
    for block in blocks.each():
        done.append(mask(block, start))
        start += block.numel()
    return torch.cat(done)


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
def test_kept_count(density: float, n: int, kept: int):
    assert kept_count(density, n) == kept


LARGEST = [
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


@pytest.mark.parametrize("matrix, density, kept", LARGEST)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_keep_largest(matrix: list, density: float, kept: list, rows: int):
    assert sparse(prune_magnitude, torch.tensor(matrix).float(), density, rows).tolist() == torch.tensor(kept).tolist()


@examples(150)
@given(
    st.integers(1, 40), st.integers(1, 30), st.floats(0, 1), st.integers(1, 40), st.integers(0, 999), st.integers(0, 3)
)
def test_keep_largest_is_a_sort(m: int, n: int, density: float, rows: int, seed: int, kind: int):
    """The very elements that sorting by magnitude and position keeps, in blocks of any size, however many tie."""
    noise = torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
    matrix = [noise, noise.round(), noise.bfloat16().float(), torch.where(noise > 0.3, noise, 0.0)][kind]
    expected = oracle.largest(matrix.double().numpy(), density)
    assert np.array_equal(sparse(prune_magnitude, matrix, density, rows).double().numpy(), expected)


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.5, 1e-45, 1e-38, -3e38, 0.1]), min_size=2, max_size=60),
    st.integers(1, 59),
    st.integers(1, 9),
)
@examples(300)
def test_both_searches_for_the_threshold_find_the_same(values: list[float], k: int, rows: int):
    """The one for cards runs on any device."""
    matrix = torch.tensor(values)[:, None]
    k = min(k, len(values) - 1)
    threshold, wanted, tied = kth_by_digits(blocks_of(matrix, rows), k)
    magnitudes = sorted(matrix.abs().reshape(-1).tolist(), reverse=True)
    assert threshold == magnitudes[k - 1]
    assert tied == magnitudes.count(threshold) and wanted == k - sum(m > threshold for m in magnitudes)
    other, also_wanted, also_tied = kth_by_partition(blocks_of(matrix, rows), k)
    assert other == threshold and also_tied - also_wanted == tied - wanted
    assert also_wanted == wanted or also_tied == also_wanted  # not counted where all of that size are kept


def test_keep_largest_counts_beyond_the_whole_numbers_of_float32():
    """2^24 + 3 equal magnitudes: a count in float32 would stop at 2^24."""
    n = 2**24 + 3
    matrix = torch.ones(1, n)
    matrix[0, ::2] = -1
    kept = sparse(prune_magnitude, matrix, (n - 2) / n)
    assert kept.count_nonzero() == n - 2
    assert kept[0, -3:].tolist() == [-1, 0, 0]


def test_what_sparsifies_leaves_its_input_alone():
    matrix = torch.randn(6, 5)
    before = matrix.clone()
    for sparsify in (keep_all, prune_magnitude, dropout_rescale):
        for density in (0.0, 0.5, 1.0):
            sparse(sparsify, matrix, density)
    assert torch.equal(matrix, before)


def test_keep_all_knows_no_density():
    matrix = torch.randn(6, 5)
    for density in (0.0, 0.5, 1.0):
        assert torch.equal(sparse(keep_all, matrix, density), matrix)


# Consensus


SUMS = [
    # tensors, weights, weighted sum, elected mean
    ([[3, -2], [-1, 3]], [0.5, 8], [-6.5, 23], [1.5, 24]),
    ([[3, -2], [-1, 3]], [-1, 1], [-4, 5], [-3, 3]),  # a negative weight doesn't turn the vote
    ([[1, -2, 0], [1, -2, 0]], [1, 1], [2, -4, 0], [1, -2, 0]),  # a mean, not a sum
    ([[1, -2, 0], [1, -2, 0]], [1, 3], [4, -8, 0], [2, -4, 0]),
    ([[1], [-1]], [1, 1], [0], [1]),  # a sum of zero elects plus
    ([[-1], [1]], [1, 1], [0], [1]),
    ([[0], [2]], [1, 1], [2], [2]),  # zeros don't count
    ([[0], [-2]], [1, 1], [-2], [-2]),
    ([[0], [0]], [5, 7], [0], [0]),
    ([[3], [-1], [-1]], [1, 1, 1], [1], [3]),  # the sum votes, not the heads
    ([[2], [-1], [-1]], [1, 1, 1], [0], [2]),
    ([[1], [-1], [-1]], [1, 1, 1], [-1], [-1]),
    ([[4], [2], [-1]], [1, 0.5, 9], [-4], [2.5]),
    ([[7, -7]], [-2], [-14, 14], [-14, 14]),
    ([[[1, 2], [3, -4]], [[-5, 6], [0, 8]]], [1, 1], [[-4, 8], [3, 4]], [[-5, 4], [3, 8]]),
]


@pytest.mark.parametrize("tensors, weights, total, mean", SUMS)
def test_consensus(tensors: list, weights: list[float], total: list, mean: list):
    inputs = [torch.tensor(tensor).float() for tensor in tensors]
    before = [tensor.clone() for tensor in inputs]
    assert weighted_sum(inputs, weights).tolist() == total
    assert disjoint_mean(inputs, weights).tolist() == mean
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@examples(60)
@given(st.integers(1, 5), st.integers(0, 999), st.booleans())
def test_consensus_equals_the_oracle(count: int, seed: int, whole: bool):
    noise = np.random.Generator(np.random.PCG64(seed))
    tensors = [noise.standard_normal((4, 6)) for _ in range(count)]
    tensors = [np.round(x) if whole else np.float32(x).astype(np.float64) for x in tensors]
    weights = np.round(noise.standard_normal(count) * 2, 1).tolist()
    inputs = [torch.tensor(x).float() for x in tensors]
    assert oracle.distance(weighted_sum(inputs, weights).numpy(), oracle.combine("add", tensors, weights, 1)) < 1e-6
    assert oracle.distance(disjoint_mean(inputs, weights).numpy(), oracle.disjoint_mean(tensors, weights)) < 1e-6


# Random masks


def mask_of(draw: MaskStream, density: float, shape: tuple[int, int], rows: int = 10**9) -> Tensor:
    return sparse(dropout_rescale, torch.ones(shape), density, rows, draw) != 0


def sigmas(hits: float, n: int, p: float) -> float:
    return abs(hits - n * p) / math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("density", [0.01, 0.1, 0.29, 0.5, 0.9, 0.999])
def test_the_share_that_stays_is_the_density(density: float):
    n = 200_000
    kept = int(mask_of(DRAW, density, (400, 500)).sum())
    assert sigmas(kept, n, density) < 5


def test_each_row_and_each_column_keeps_its_share():
    mask = mask_of(DRAW, 0.3, (300, 300)).double()
    for sums in (mask.sum(0), mask.sum(1)):
        assert all(sigmas(float(hits), 300, 0.3) < 5 for hits in sums)


@pytest.mark.parametrize("density", [0.1, 0.29, 0.5, 0.7])
def test_what_stays_is_divided_by_the_density(density: float):
    matrix = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    kept = sparse(dropout_rescale, matrix, density)
    stays = kept != 0
    assert 0 < int(stays.sum()) < matrix.numel()
    assert torch.allclose(kept[stays], (matrix.double() / density).float()[stays], rtol=2e-7, atol=0)


def test_the_mean_over_seeds_is_the_matrix():
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    density, seeds = 0.4, 400
    draws = [sparse(dropout_rescale, matrix, density, draw=MaskStream(seed, "w", 1, "up")) for seed in range(seeds)]
    mean = torch.stack(draws).double().mean(0)
    deviation = matrix.double().abs() * math.sqrt((1 / density - 1) / seeds)
    assert float(((mean - matrix).abs() / deviation).max()) < 5


def test_densities_at_the_ends():
    matrix = torch.randn(9, 9)
    assert torch.equal(sparse(dropout_rescale, matrix, 1.0), matrix)
    zeros = sparse(dropout_rescale, matrix, 0.0)
    assert not zeros.any() and not zeros.isnan().any()
    for density in (1e-300, 1e-12, math.nextafter(1.0, 0.0)):
        assert torch.isfinite(sparse(dropout_rescale, matrix, density)).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 32])
def test_a_mask_is_the_same_in_any_blocks(rows: int):
    for shape in ((32, 17), (33, 8), (5, 1)):
        assert torch.equal(mask_of(DRAW, 0.4, shape, rows), mask_of(DRAW, 0.4, shape))


@pytest.mark.parametrize("start", [0, 1, 2, 7, 8, 9, 15, 16, 1001, 2**33 + 5])
@pytest.mark.parametrize("count", [0, 1, 3, 8, 100])
def test_a_stream_of_integers_is_the_same_from_anywhere(start: int, count: int):
    back = min(start, 13)
    around = DRAW.integers(start - back, back + count + 5)
    found = DRAW.integers(start, count)
    assert len(found) == count and found.dtype.itemsize == 4
    assert np.array_equal(found, around[back : back + count])


def test_integers_are_uniform():
    values = DRAW.integers(0, 2**16).astype(np.uint64)
    for shift in (0, 8, 16, 24):
        counts = np.bincount(((values >> np.uint64(shift)) & np.uint64(255)).astype(int), minlength=256)
        chi_square = float(((counts - 256) ** 2 / 256).sum())
        assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


OTHER_DRAWS = [
    MaskStream(2, "model:x", 1, "delta"),
    MaskStream(1, "model:y", 1, "delta"),
    MaskStream(1, "te1:x", 1, "delta"),
    MaskStream(1, "model:x", 2, "delta"),
    MaskStream(1, "model:x", 11, "delta"),
    MaskStream(1, "model:x", 1, "up"),
    MaskStream(1, "model:x", 1, "down"),
    MaskStream(11, "model:x", 1, "delta"),
    MaskStream(-1, "model:x", 1, "delta"),
    MaskStream(2**64 - 1, "model:x", 1, "delta"),
]


def test_masks_of_other_seeds_weights_loras_and_sides_are_independent():
    n = 40_000
    masks = [mask_of(draw, 0.5, (200, 200)) for draw in (DRAW, *OTHER_DRAWS)]
    for i, first in enumerate(masks):
        for second in masks[:i]:
            assert sigmas(int((first == second).sum()), n, 0.5) < 5


def test_neighbours_are_independent():
    flat = mask_of(DRAW, 0.5, (200, 200)).reshape(-1)
    for lag in (1, 2, 4, 8, 200):
        same = flat[lag:] == flat[:-lag]
        assert sigmas(int(same.sum()), len(same), 0.5) < 5


GOLDEN = "ebb648f4510961ebbfaf18fb277dfa0bef5c9cd3ec68cb87331a4e3ceb113a7b"


def checksum(mask: Tensor) -> str:
    return hashlib.sha256(np.packbits(mask.numpy()).tobytes()).hexdigest()


def test_a_mask_stays_what_it_is():
    """Files made with a seed have to come out the same with the next version too: this number never changes."""
    assert checksum(mask_of(MaskStream(42, "model:mid_block", 2, "down"), 0.3, (123, 45))) == GOLDEN


@pytest.mark.slow
def test_a_mask_is_the_same_in_another_process():
    code = (
        "import hashlib, random\n"
        "import numpy as np, torch\n"
        "from merge.methods.blocks import Blocks, MaskStream\nfrom merge.methods.sparsify import dropout_rescale\n"
        "np.random.seed(5); random.seed(5); torch.manual_seed(5); torch.rand(3)\n"
        "ones = torch.ones(123, 45)\n"
        "blocks = Blocks(ones.numel(), lambda: iter([ones]))\n"
        "kept = dropout_rescale(blocks, 0.3, MaskStream(42, 'model:mid_block', 2, 'down'))(ones, 0)\n"
        "print(hashlib.sha256(np.packbits((kept != 0).numpy()).tobytes()).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == GOLDEN


def test_drawing_touches_no_global_random_state():
    def states() -> Sequence[str]:
        return repr(torch.get_rng_state().tolist()), repr(np.random.get_state()), repr(random.getstate())

    before = states()
    mask_of(DRAW, 0.5, (50, 50))
    assert states() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sparsify", [prune_magnitude, dropout_rescale])
def test_the_same_elements_stay_on_a_gpu(sparsify: Sparsifier):
    for matrix in (torch.randn(300, 200), torch.randn(300, 200).round(), torch.randn(300, 200).bfloat16().float()):
        kept = sparse(sparsify, matrix, 0.37, rows=70)
        assert torch.equal(sparse(sparsify, matrix.cuda(), 0.37, rows=70).cpu() != 0, kept != 0)
