"""Truncated SVDs of sums of low-rank products against float64 SVDs of the full matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.numerics.rank_rules import RankRule, fixed_rank
from lora_pack.merge.numerics.sum_svd import truncate_sum
from lora_pack.merge.numerics.truncated import Truncated
from lora_pack.tests.support.makers import examples, rotation
from lora_pack.tests.support.spectra import assert_truncated, product
from torch import Tensor


def truncate_product(up: Tensor, down: Tensor, rule: RankRule) -> Truncated | None:
    return truncate_sum([(up, down, 1.0)], rule)


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
def test_a_product_is_truncated_as_well_as_possible(values: list[float], shape: tuple[int, int]):
    up, down = product(shape, values)
    whole = (up @ down).numpy()
    for rank in (1, 3, len(values), 50):
        found = truncate_product(up, down, fixed_rank(rank))
        assert found is not None and found.up.dtype == torch.float64
        assert_truncated(found, whole, min(rank, len(values)), 1.00001)


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e8, 1e9])
def test_badly_conditioned_factors_are_truncated_as_well_as_possible(condition: float):
    """(B G, G^-1 A) is the same product, of terms that nearly cancel."""
    scales = torch.diag(torch.logspace(0, math.log10(condition), 8, dtype=torch.float64))
    for seed in range(4):
        for gauge in (scales, rotation(8, 5 + seed) @ scales @ rotation(8, 60 + seed)):
            up, down = product((40, 30), [3.0, 2.5, 2.0, 1.5, 1.0, 0.9, 0.8, 0.7], seed, gauge)
            for rank in (1, 4, 8):
                assert_truncated(truncate_product(up, down, fixed_rank(rank)), (up @ down).numpy(), rank, 1.00001)


def test_a_product_with_more_ranks_than_rows_is_truncated_as_well_as_possible():
    generator = torch.Generator().manual_seed(1)
    up = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    down = torch.randn(30, 9, generator=generator, dtype=torch.float64)
    for rank in (2, 6, 40):
        assert_truncated(truncate_product(up, down, fixed_rank(rank)), (up @ down).numpy(), min(rank, 6), 1.00001)


def test_no_rank_is_spent_on_repeated_or_zero_columns():
    """Four copies of the same factors, and columns of zeros: rank 3, even if 16 is asked for."""
    up, down = product((20, 15), [3.0, 2.0, 1.0])
    zeros = torch.zeros(20, 2, dtype=torch.float64), torch.ones(2, 15, dtype=torch.float64)
    found = truncate_product(torch.cat([up] * 4 + [zeros[0]], 1), torch.cat([down] * 4 + [zeros[1]]), fixed_rank(16))
    assert found is not None and found.up.shape[1] == 3
    assert_truncated(found, 4 * (up @ down).numpy(), 3, 1.00001)


def test_a_zero_product_gives_none():
    up, down = product((8, 7), [2.0, 1.0])
    assert truncate_product(torch.zeros_like(up), down, fixed_rank(2)) is None
    assert truncate_product(up, torch.zeros_like(down), fixed_rank(2)) is None
    cancel = truncate_product(torch.cat([up, up], 1), torch.cat([down, -down]), fixed_rank(4))
    assert cancel is None or float(cancel.up.norm() * cancel.down.norm()) < 1e-7
    disjoint = truncate_product(torch.eye(8)[:, :2] * torch.tensor([1, 0]), torch.eye(7)[:2] * 1.0, fixed_rank(2))
    assert disjoint is not None and disjoint.up.shape[1] == 1


@examples(60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 16), st.integers(1, 12), st.integers(0, 999))
def test_any_product_is_truncated_as_well_as_possible(m: int, n: int, r: int, rank: int, seed: int):
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


@pytest.mark.parametrize("ranks", [(2, 3, 4), (20, 9, 30)], ids=["core", "dense sum"])
def test_weights_multiply_the_terms_of_a_sum(ranks: tuple[int, ...]):
    terms = [
        (*product((40, 30), [float(n + 1)] * rank, seed=10 * n), weight)
        for n, (rank, weight) in enumerate(zip(ranks, (1.5, -0.25, 0.0), strict=True))
    ]
    whole = sum(weight * (up @ down).numpy() for up, down, weight in terms)
    assert_truncated(truncate_sum(terms, fixed_rank(4)), whole, 4, 1.00001)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("rank", [3, 20], ids=["core", "dense sum"])
def test_factors_with_nan_or_inf_raise_overflow_error(rank: int, bad: float):
    up, down = torch.ones(12, rank), torch.ones(rank, 10)
    up[3, 1] = bad
    with pytest.raises(OverflowError):
        truncate_product(up, down, fixed_rank(2))
