"""The rank that each rule picks from singular values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.numerics.rank_rules import RankRule, cumulative_rank, fixed_rank, frobenius_rank, ratio_rank
from lora_pack.tests.support.makers import examples

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
def test_a_rule_picks_the_rank_worked_out_by_hand(rule: RankRule, rank: int):
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
