"""Truncated SVDs of dense matrices against float64 SVDs."""

from __future__ import annotations

import unittest.mock
from collections.abc import Sequence

import pytest
import torch
from lora_pack.merge.compute.context import no_cancel
from lora_pack.merge.numerics.dense_svd import truncate_dense, truncate_dense_by_rule
from lora_pack.merge.numerics.rank_rules import ratio_rank
from lora_pack.tests.support.spectra import assert_truncated, product
from torch import Tensor


def dense_with(shape: tuple[int, int], values: Sequence[float]) -> Tensor:
    up, down = product(shape, values)
    return (up @ down).float()


def noise_columns(rows: int, columns: int, seed: int = 3) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


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
def test_a_dense_matrix_is_truncated_within_1_percent_of_the_best(kind: str, rank: int, shape: tuple[int, int]):
    """Ranks 1 and 6 of the large shapes by iteration, the others by the Gram matrix."""
    dense = DENSE[kind](*shape)
    before = dense.clone()
    start, noise = noise_columns(shape[0], rank), noise_columns(shape[0], 16, seed=4)
    found = truncate_dense(dense, rank, start, noise, no_cancel)
    whole = dense.double().numpy()
    assert_truncated(found, whole, min(rank, *shape), 1.01)
    assert torch.equal(dense, before)


@pytest.mark.parametrize("true_rank", [1, 4])
@pytest.mark.parametrize("shape", [(160, 130), (600, 500), (20, 12)])
def test_no_rank_is_spent_on_rounding(true_rank: int, shape: tuple[int, int]):
    """Products of whole numbers have exactly the rank of their factors."""
    generator = torch.Generator().manual_seed(true_rank)
    up = torch.randint(-3, 4, (shape[0], true_rank), generator=generator).float()
    down = torch.randint(-3, 4, (true_rank, shape[1]), generator=generator).float()
    start, noise = noise_columns(shape[0], 8), noise_columns(shape[0], 16, seed=4)
    found = truncate_dense(up @ down, 8, start, noise, no_cancel)
    assert_truncated(found, (up @ down).double().numpy(), 8, 1.01)
    assert found is not None and found.up.shape[1] == true_rank


@pytest.mark.parametrize("kind", ["gaussian", "falling", "rank 5", "rank 5 and noise"])
def test_a_useless_start_does_not_cost_accuracy(kind: str):
    """Zeros, one direction repeated, columns of very different lengths, no columns at all."""
    dense = DENSE[kind](150, 140)
    good = noise_columns(150, 8)
    starts = [torch.zeros(150, 8), good[:, :1].repeat(1, 8), good * torch.logspace(-12, 12, 8), good[:, :0]]
    for start in starts:
        found = truncate_dense(dense, 6, start, noise_columns(150, 16, seed=4), no_cancel)
        assert_truncated(found, dense.double().numpy(), 6, 1.01)


@pytest.mark.parametrize("scale", [1e-18, 1e-6, 1e6, 1e15])
@pytest.mark.parametrize("shape", [(160, 130), (20, 12)])
def test_very_small_and_very_large_values_are_truncated_as_well(scale: float, shape: tuple[int, int]):
    dense = DENSE["falling"](*shape) * scale
    found = truncate_dense(dense, 4, noise_columns(shape[0], 4), noise_columns(shape[0], 16, seed=4), no_cancel)
    assert_truncated(found, dense.double().numpy(), 4, 1.01)


def test_a_zero_matrix_gives_none():
    for shape in ((160, 130), (7, 5)):
        zeros = torch.zeros(shape)
        assert truncate_dense(zeros, 3, noise_columns(shape[0], 3), noise_columns(shape[0], 16), no_cancel) is None


def test_the_cancel_check_is_called():
    for shape in ((160, 130), (20, 12)):
        check = unittest.mock.Mock()
        dense = DENSE["gaussian"](*shape)
        truncate_dense(dense, 4, noise_columns(shape[0], 4), noise_columns(shape[0], 16), check)
        assert check.called


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_a_rule_sees_all_singular_values_of_a_dense_matrix(shape: tuple[int, int]):
    dense = dense_with(shape, [8.0, 4.0, 2.0, 1.0, 1.0])
    for ratio, rank in ((1.9, 1), (3.9, 2), (7.9, 3), (9.0, 5)):
        found = truncate_dense_by_rule(dense, ratio_rank(ratio, 9), no_cancel)
        assert_truncated(found, dense.double().numpy(), rank, 1.00001)
