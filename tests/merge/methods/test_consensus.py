"""The weighted sum and the disjoint mean, worked by hand and against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.methods.consensus import disjoint_mean, weighted_sum
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import examples

SUMS = [
    # tensors, weights, weighted sum, disjoint mean
    ([[3, -2], [-1, 3]], [0.5, 8], [-6.5, 23], [1.5, 24]),
    ([[3, -2], [-1, 3]], [-1, 1], [-4, 5], [-3, 3]),  # a negative weight doesn't change the vote
    ([[1, -2, 0], [1, -2, 0]], [1, 1], [2, -4, 0], [1, -2, 0]),  # a mean, not a sum
    ([[1, -2, 0], [1, -2, 0]], [1, 3], [4, -8, 0], [2, -4, 0]),
    ([[1], [-1]], [1, 1], [0], [1]),  # a sum of zero elects plus
    ([[-1], [1]], [1, 1], [0], [1]),
    ([[0], [2]], [1, 1], [2], [2]),  # zeros don't count
    ([[0], [-2]], [1, 1], [-2], [-2]),
    ([[0], [0]], [5, 7], [0], [0]),
    ([[3], [-1], [-1]], [1, 1, 1], [1], [3]),  # the sum elects, not the number of votes
    ([[2], [-1], [-1]], [1, 1, 1], [0], [2]),
    ([[1], [-1], [-1]], [1, 1, 1], [-1], [-1]),
    ([[4], [2], [-1]], [1, 0.5, 9], [-4], [2.5]),
    ([[7, -7]], [-2], [-14, 14], [-14, 14]),
    ([[[1, 2], [3, -4]], [[-5, 6], [0, 8]]], [1, 1], [[-4, 8], [3, 4]], [[-5, 4], [3, 8]]),
]


@pytest.mark.parametrize("tensors, weights, total, mean", SUMS)
def test_consensus_worked_by_hand(tensors: list, weights: list[float], total: list, mean: list):
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
