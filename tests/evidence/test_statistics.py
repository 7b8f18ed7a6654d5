"""Intervals are honest: ties aren't differences, and pictures of one pair don't count as independent."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence.statistics import difference, estimate, paired
finally:
    sys.path.remove(str(ROOT))


def coins(seed: int, rate: float, pairs: int = 12, noises: int = 16) -> dict[str, tuple[str, list[float]]]:
    random = np.random.RandomState(seed)
    return {f"case {i}": (f"pair {i}", [float(random.rand() < rate) for _ in range(noises)]) for i in range(pairs)}


def test_equal_merges_are_no_different():
    found = difference(coins(1, 0.7), coins(1, 0.7))
    assert found is not None
    assert (found.mean, found.low, found.high, found.is_different) == (0, 0, 0, False)


def test_a_tie_is_called_a_difference_about_once_in_twenty():
    ties = [difference(coins(2 * i, 0.6), coins(2 * i + 1, 0.6)) for i in range(60)]
    assert sum(one is not None and one.is_different for one in ties) <= 9


def test_a_large_difference_shows():
    found = difference(coins(1, 0.9), coins(2, 0.5))
    assert found is not None and found.is_different and 0.25 < found.mean < 0.55


def test_the_mean_is_over_pairs_not_over_pictures():
    found = estimate({"a": ("first", [1.0] * 30), "b": ("second", [0.0] * 10)})
    assert found is not None
    assert (found.mean, found.pairs) == (0.5, 2)


def test_cases_of_one_pair_count_as_one_pair():
    """Ten cases that all agree: certain if they were ten pairs, one pair's opinion if they are one."""
    random = np.random.RandomState(0)
    levels = random.rand(10)
    apart = {f"c{i}": (f"p{i}", [level] * 4) for i, level in enumerate(levels)}
    joined = {f"c{i}": (f"p{i // 5}", [level] * 4) for i, level in enumerate(levels)}
    wide, narrow = estimate(joined), estimate(apart)
    assert wide is not None and narrow is not None
    assert wide.pairs == 2 and narrow.pairs == 10


def test_differences_are_taken_on_the_same_case_and_noise():
    found = paired({"a": ("p", [1.0, 0.0]), "b": ("p", [1.0, 1.0])}, {"b": ("p", [0.0, 1.0])})
    assert found == {"b": ("p", [1.0, 0.0])}


def test_no_outcomes_give_no_estimate():
    assert estimate({}) is None
