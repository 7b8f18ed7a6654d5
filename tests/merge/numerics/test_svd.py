"""Singular value decompositions against float64 ones of the whole matrix, and the rules that choose a rank."""

from __future__ import annotations

import math
import unittest.mock
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.numerics import svd
from lora_pack.merge.numerics.svd import (
    RankRule,
    Truncated,
    cumulative_rank,
    fixed_rank,
    frobenius_rank,
    ratio_rank,
    row_blocks,
    stack,
    truncate_dense,
    truncate_product,
)
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import examples, rotation
from torch import Tensor

VALUES = [8.0, 4.0, 2.0, 1.0, 1.0]  # sum 16, sum of squares 86

RULES = [
    (fixed_rank(1), 1),
    (fixed_rank(3), 3),
    (fixed_rank(5), 5),
    (fixed_rank(9), 5),
    # the next singular value is at most 1/ratio of the largest
    (ratio_rank(1.0, 9), 1),
    (ratio_rank(1.99, 9), 1),
    (ratio_rank(2.0, 9), 1),
    (ratio_rank(2.01, 9), 2),
    (ratio_rank(4.0, 9), 2),
    (ratio_rank(7.99, 9), 3),
    (ratio_rank(8.0, 9), 3),
    (ratio_rank(8.01, 9), 5),
    (ratio_rank(1e9, 9), 5),
    (ratio_rank(1e9, 4), 4),
    # the sum is at least the share: 8, 12, 14, 15, 16 of 16
    (cumulative_rank(0.0, 9), 1),
    (cumulative_rank(0.5, 9), 1),
    (cumulative_rank(0.501, 9), 2),
    (cumulative_rank(0.75, 9), 2),
    (cumulative_rank(0.76, 9), 3),
    (cumulative_rank(0.9375, 9), 4),
    (cumulative_rank(0.938, 9), 5),
    (cumulative_rank(1.0, 9), 5),
    (cumulative_rank(1.0, 2), 2),
    # the norm is at least the share: sqrt of 64, 80, 84, 85, 86 of 86
    (frobenius_rank(0.0, 9), 1),
    (frobenius_rank(0.8626, 9), 1),
    (frobenius_rank(0.8628, 9), 2),
    (frobenius_rank(0.9644, 9), 2),
    (frobenius_rank(0.9646, 9), 3),
    (frobenius_rank(0.9882, 9), 3),
    (frobenius_rank(0.9884, 9), 4),
    (frobenius_rank(0.9941, 9), 4),
    (frobenius_rank(0.9942, 9), 5),
    (frobenius_rank(1.0, 9), 5),
    (frobenius_rank(1.0, 3), 3),
]


@pytest.mark.parametrize("rule, rank", RULES)
def test_rank_rules(rule: RankRule, rank: int):
    assert rule(torch.tensor(VALUES, dtype=torch.float64)) == rank


@examples(100)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12), st.floats(0.0, 1.0), st.integers(1, 14))
def test_rules_take_the_smallest_rank_that_meets_their_criterion(values: list[float], share: float, most: int):
    values = sorted(values, reverse=True)
    spectrum = torch.tensor(values, dtype=torch.float64)
    ratio = 1 / max(share, 1e-6)
    criteria = {
        ratio_rank(ratio, most): lambda k: k == len(values) or values[k] <= values[0] / ratio,
        cumulative_rank(share, most): lambda k: math.fsum(values[:k]) >= share * math.fsum(values) * (1 - 1e-12),
        frobenius_rank(share, most): lambda k: (
            math.fsum(v * v for v in values[:k]) >= share**2 * math.fsum(v * v for v in values) * (1 - 1e-12)
        ),
    }
    for rule, met in criteria.items():
        smallest = next(k for k in range(1, len(values) + 1) if met(k))
        assert abs(rule(spectrum) - min(smallest, most)) == 0 or at_the_edge(values, share, ratio)


def at_the_edge(values: Sequence[float], share: float, ratio: float) -> bool:
    """Whether rounding alone decides the rank."""
    sums = np.cumsum(values) / np.sum(values)
    squares = np.sqrt(np.cumsum(np.square(values)) / np.sum(np.square(values)))
    edges = np.concatenate([sums - share, squares - share, np.array(values) * ratio / values[0] - 1])
    return bool(np.abs(edges).min() < 1e-9)


# Sums of factors


def test_stack_is_the_sum():
    generator = torch.Generator().manual_seed(0)
    terms = [
        (torch.randn(7, r, generator=generator), torch.randn(r, 5, generator=generator), gain)
        for r, gain in ((2, 1.5), (3, -0.25), (1, 0.0), (2, 1e-8))
    ]
    up, down = stack(terms, torch.float64)
    assert up.shape == (7, 8) and down.shape == (8, 5) and up.dtype == torch.float64
    expected = sum(gain * (a.double().numpy() @ b.double().numpy()) for a, b, gain in terms)
    assert oracle.distance((up @ down).numpy(), expected) < 1e-14


def test_stack_shares_the_gain_evenly_and_gives_the_sign_to_the_down():
    up, down = stack([(torch.tensor([[2.0]]), torch.tensor([[3.0]]), -4.0)], torch.float32)
    assert (up.tolist(), down.tolist()) == ([[4.0]], [[-6.0]])


def product(shape: tuple[int, int], values: Sequence[float], seed: int = 0, gauge: Tensor | None = None):
    """float64 factors (m, R) and (R, n) whose product has these singular values."""
    left, right = (rotation(size, seed + i)[:, : len(values)] for i, size in enumerate(shape))
    up, down = left * torch.tensor(values, dtype=torch.float64), right.T
    return (up, down) if gauge is None else (up @ gauge, torch.linalg.inv(gauge) @ down)


def assert_truncated(found: Truncated | None, whole: np.ndarray, rank: int, most: float) -> None:
    assert found is not None
    up, down = found.up.double().numpy(), found.down.double().numpy()
    k = up.shape[1]
    assert k == down.shape[0] <= rank
    size = float(np.linalg.norm(whole))
    error = float(np.linalg.norm(up @ down - whole))
    assert error <= math.hypot(most * oracle.best_error(whole, k), 1e-6 * size)
    assert k == rank or oracle.best_error(whole, k) <= 1e-6 * size, "a rank short, and not for want of anything"
    assert math.isclose(found.total, size**2, rel_tol=1e-5)
    assert math.isclose(found.kept, float(np.linalg.norm(up @ down)) ** 2, rel_tol=1e-5)
    lengths = np.square(up).sum(axis=0), np.square(down).sum(axis=1)
    assert np.allclose(*lengths, rtol=1e-3, atol=1e-5 * lengths[0].max()), "each carries the roots"
    assert np.all(np.diff(lengths[0]) <= 1e-5 * lengths[0].max()), "the largest first"


PRODUCTS = {
    "flat": [1.0] * 9,
    "falling": [2.0**-i for i in range(9)],
    "steep": [10.0 ** (-i) for i in range(9)],
    "one": [5.0],
    "a cliff": [1.0, 1.0, 1.0, 1e-9, 1e-9],
    "tiny": [1e-30, 5e-31, 1e-31],
    "huge": [1e30, 5e29, 1e29],
}


@pytest.mark.parametrize("values", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (9, 9), (12, 9), (64, 10)])
def test_truncate_product(values: list[float], shape: tuple[int, int]):
    up, down = product(shape, values)
    whole = (up @ down).numpy()
    for rank in (1, 3, len(values), 50):
        found = truncate_product(up, down, fixed_rank(rank))
        assert found is not None and found.up.dtype == torch.float64
        assert_truncated(found, whole, min(rank, len(values)), 1.00001)


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e8, 1e9])
def test_truncate_product_in_bad_gauges(condition: float):
    """Factors that nearly cancel: (B G, G^-1 A) is the same product."""
    scales = torch.diag(torch.logspace(0, math.log10(condition), 8, dtype=torch.float64))
    for seed in range(4):
        for gauge in (scales, rotation(8, 5 + seed) @ scales @ rotation(8, 60 + seed)):
            up, down = product((40, 30), [3.0, 2.5, 2.0, 1.5, 1.0, 0.9, 0.8, 0.7], seed, gauge)
            for rank in (1, 4, 8):
                assert_truncated(truncate_product(up, down, fixed_rank(rank)), (up @ down).numpy(), rank, 1.00001)


def test_truncate_product_of_more_columns_than_rows():
    generator = torch.Generator().manual_seed(1)
    up = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    down = torch.randn(30, 9, generator=generator, dtype=torch.float64)
    for rank in (2, 6, 40):
        assert_truncated(truncate_product(up, down, fixed_rank(rank)), (up @ down).numpy(), min(rank, 6), 1.00001)


def test_truncate_product_finds_the_rank_that_is_there():
    """Four times the same factors, and columns of zeros: rank 3, whatever is asked for."""
    up, down = product((20, 15), [3.0, 2.0, 1.0])
    zeros = torch.zeros(20, 2, dtype=torch.float64), torch.ones(2, 15, dtype=torch.float64)
    found = truncate_product(torch.cat([up] * 4 + [zeros[0]], 1), torch.cat([down] * 4 + [zeros[1]]), fixed_rank(16))
    assert found is not None and found.up.shape[1] == 3
    assert_truncated(found, 4 * (up @ down).numpy(), 3, 1.00001)


def test_truncate_product_of_nothing():
    up, down = product((8, 7), [2.0, 1.0])
    assert truncate_product(torch.zeros_like(up), down, fixed_rank(2)) is None
    assert truncate_product(up, torch.zeros_like(down), fixed_rank(2)) is None
    cancel = truncate_product(torch.cat([up, up], 1), torch.cat([down, -down]), fixed_rank(4))
    assert cancel is None or float(cancel.up.norm() * cancel.down.norm()) < 1e-7
    disjoint = truncate_product(torch.eye(8)[:, :2] * torch.tensor([1, 0]), torch.eye(7)[:2] * 1.0, fixed_rank(2))
    assert disjoint is not None and disjoint.up.shape[1] == 1


@examples(60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 16), st.integers(1, 12), st.integers(0, 999))
def test_truncate_product_of_anything(m: int, n: int, r: int, rank: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(m, r, generator=generator).round(decimals=1)
    down = torch.randn(r, n, generator=generator).round(decimals=1)
    whole = up.double().numpy() @ down.double().numpy()
    true_rank = int(np.linalg.matrix_rank(whole))
    found = truncate_product(up, down, fixed_rank(rank))
    if true_rank == 0:
        assert found is None
    else:
        assert_truncated(found, whole, min(rank, true_rank), 1.00001)


# Dense matrices


def dense_with(shape: tuple[int, int], values: Sequence[float]) -> Tensor:
    up, down = product(shape, values)
    return (up @ down).float()


def noise_columns(rows: int, columns: int, seed: int = 3) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def no_check() -> None:
    pass


DENSE = {
    "gaussian": lambda m, n: torch.randn(m, n, generator=torch.Generator().manual_seed(7)),
    "all equal singular values": lambda m, n: dense_with((m, n), [2.0] * min(m, n)),
    "slowly falling": lambda m, n: dense_with((m, n), [0.99**i for i in range(min(m, n))]),
    "falling": lambda m, n: dense_with((m, n), [0.8**i for i in range(min(m, n))]),
    "like a power": lambda m, n: dense_with((m, n), [(i + 1) ** -0.5 for i in range(min(m, n))]),
    "rank 5": lambda m, n: dense_with((m, n), [5.0, 4.0, 3.0, 2.0, 1.0]),
    "rank 1": lambda m, n: dense_with((m, n), [0.01]),
    "rank 5 and noise": lambda m, n: dense_with((m, n), [5.0, 4.0, 3.0, 2.0, 1.0] + [1e-3] * (min(m, n) - 5)),
    "one element": lambda m, n: torch.zeros(m, n).index_put((torch.tensor(m - 1), torch.tensor(0)), torch.tensor(3.0)),
    "a row and a column": lambda m, n: torch.nn.functional.pad(torch.ones(m - 1, n - 1) * 0.0, (1, 0, 1, 0), value=1.0),
}


@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("rank", [1, 6, 60])
@pytest.mark.parametrize("shape", [(160, 130), (110, 190), (20, 12)])
def test_truncate_dense(kind: str, rank: int, shape: tuple[int, int]):
    """At ranks 1 to 8 of the large shapes by iteration, else by the Gram matrix: within 1 % of the best."""
    dense = DENSE[kind](*shape)
    before = dense.clone()
    start, noise = noise_columns(shape[0], rank), noise_columns(shape[0], 16, seed=4)
    found = truncate_dense(dense, rank, start, noise, no_check)
    whole = dense.double().numpy()
    assert_truncated(found, whole, min(rank, *shape), 1.01)
    assert torch.equal(dense, before)


@pytest.mark.parametrize("true_rank", [1, 4])
@pytest.mark.parametrize("shape", [(160, 130), (600, 500), (20, 12)])
def test_truncate_dense_spends_no_rank_on_rounding(true_rank: int, shape: tuple[int, int]):
    """Products of whole numbers have exactly the rank of their factors."""
    generator = torch.Generator().manual_seed(true_rank)
    up = torch.randint(-3, 4, (shape[0], true_rank), generator=generator).float()
    down = torch.randint(-3, 4, (true_rank, shape[1]), generator=generator).float()
    start, noise = noise_columns(shape[0], 8), noise_columns(shape[0], 16, seed=4)
    found = truncate_dense(up @ down, 8, start, noise, no_check)
    assert_truncated(found, (up @ down).double().numpy(), 8, 1.01)
    assert found is not None and found.up.shape[1] == true_rank


@pytest.mark.parametrize("kind", ["gaussian", "falling", "rank 5", "rank 5 and noise"])
def test_a_start_that_is_of_no_use(kind: str):
    """Zeros, one direction many times, columns of very different lengths, none: only the time may suffer."""
    dense = DENSE[kind](150, 140)
    good = noise_columns(150, 8)
    starts = [torch.zeros(150, 8), good[:, :1].repeat(1, 8), good * torch.logspace(-12, 12, 8), good[:, :0]]
    for start in starts:
        found = truncate_dense(dense, 6, start, noise_columns(150, 16, seed=4), no_check)
        assert_truncated(found, dense.double().numpy(), 6, 1.01)


@pytest.mark.parametrize("scale", [1e-18, 1e-6, 1e6, 1e15])
@pytest.mark.parametrize("shape", [(160, 130), (20, 12)])
def test_truncate_dense_at_any_scale(scale: float, shape: tuple[int, int]):
    dense = DENSE["falling"](*shape) * scale
    found = truncate_dense(dense, 4, noise_columns(shape[0], 4), noise_columns(shape[0], 16, seed=4), no_check)
    assert_truncated(found, dense.double().numpy(), 4, 1.01)


def test_truncate_dense_of_zeros():
    for shape in ((160, 130), (7, 5)):
        zeros = torch.zeros(shape)
        assert truncate_dense(zeros, 3, noise_columns(shape[0], 3), noise_columns(shape[0], 16), no_check) is None


def test_truncate_dense_asks_whether_to_stop():
    for shape in ((160, 130), (20, 12)):
        check = unittest.mock.Mock()
        dense = DENSE["gaussian"](*shape)
        truncate_dense(dense, 4, noise_columns(shape[0], 4), noise_columns(shape[0], 16), check)
        assert check.called


# Blocks of rows


@pytest.mark.parametrize("elements", [1, 7, 64, 1000])
@pytest.mark.parametrize("rows, columns", [(1, 1), (10, 7), (33, 5), (3, 500), (64, 1)])
def test_row_blocks(rows: int, columns: int, elements: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(svd, "BLOCK_ELEMENTS", elements)
    blocks = list(row_blocks(rows, columns))
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(rows))
    assert all((stop - start) * columns <= elements or stop - start == 1 for start, stop in blocks)
    assert all(start < stop for start, stop in blocks)
    assert list(row_blocks(rows, columns)) == blocks


# Cores: eigenvectors where they see enough, else the SVD

CORES: dict[str, tuple[list[float], int, bool]] = {
    # singular values, rank, whether eigenvectors may decide
    "falling": ([1.1**-i for i in range(40)], 10, True),
    "flat": ([1.0] * 40, 10, True),
    "two of one size": ([3.0, 2.0, 2.0, 1.0], 2, True),
    "all kept": ([1.1**-i for i in range(40)], 40, True),
    "little cut off": ([1.0] * 10 + [1e-6] * 30, 10, False),
    "nothing cut off but zeros": ([1.0] * 10 + [0.0] * 30, 10, False),
    "little kept": ([1.0, 1e-6, 1e-6, 1e-7], 2, False),
    "all kept, badly conditioned": ([10.0**-i for i in range(9)], 9, False),
    "nothing": ([0.0] * 5, 2, False),
}


@pytest.mark.parametrize(("values", "rank", "seen"), CORES.values(), ids=CORES)
@pytest.mark.parametrize("size", [1e-60, 1.0, 1e60])
def test_the_best_of_a_core(values: list[float], rank: int, seen: bool, size: float):
    n = len(values)
    left, right = rotation(n, 1), rotation(n + 3, 2)[:, :n]
    core = (left * torch.tensor(values, dtype=torch.float64) * size) @ right.T
    best = svd._balanced(core, fixed_rank(rank))
    assert (svd._by_eigenvectors(core, fixed_rank(rank)) is not None) == seen
    if not any(values):
        assert best is None
        return
    assert best is not None
    real = sum(value > 1e-12 * values[0] for value in values)
    assert best.up.shape == (n, min(rank, real)) and best.down.shape == (min(rank, real), n + 3)
    lost = float(torch.linalg.matrix_norm(core - best.up @ best.down))
    least = math.hypot(*values[rank:]) * size
    assert lost <= 1.000001 * least + 1e-13 * size
    assert math.isclose(best.total, math.hypot(*values) ** 2 * size**2, rel_tol=1e-9)
    assert math.isclose(best.total - best.kept, least**2, rel_tol=1e-6, abs_tol=1e-12 * size**2)
    lengths = torch.linalg.vector_norm(best.up, dim=0) / torch.linalg.vector_norm(best.down, dim=1)
    assert torch.allclose(lengths, torch.ones_like(lengths), rtol=1e-4), "the factors are balanced"


@pytest.mark.parametrize("columns", [1, 127, 128, 129, 300])
def test_inner_products(columns: int):
    matrix = torch.randn(90, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for one in (matrix, matrix.T.contiguous().T):
        products = svd._inner_products(one)
        assert torch.allclose(products, one.T @ one, rtol=1e-12)
