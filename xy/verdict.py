"""Which settings score best, and whether the difference is more than the noise of the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

CONFIDENCE = 0.95
EQUAL = 1e-9  # scores closer than this are the same number

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Verdict(Generic[Setting]):
    """``means``: the mean score of each setting over the seeds.

    ``doubt``: two means differ, with 95 % confidence, if they are more than twice this apart; None with a single seed.
    ``best``: the setting with the highest mean; None if no two settings differ. ``as_good``: those that don't differ
    from the best.
    """

    means: dict[Setting, float]
    doubt: float | None
    best: Setting | None
    as_good: tuple[Setting, ...] = ()


def judge(scores: Mapping[Setting, Sequence[float]]) -> Verdict[Setting]:
    """The verdict on settings, each scored with the same seeds in the same order. There must be at least one."""
    means = {setting: float(np.mean(of_seeds)) for setting, of_seeds in scores.items()}
    doubt = _doubt(np.array(list(scores.values()), dtype=np.float64))
    top = max(means, key=lambda setting: means[setting])
    least = EQUAL if doubt is None else max(EQUAL, 2 * doubt)
    others = [setting for setting in means if setting != top]
    as_good = tuple(setting for setting in others if means[top] - means[setting] <= least)
    nothing_differs = bool(others) and len(as_good) == len(others)
    return Verdict(means, doubt, None if nothing_differs else top, () if nothing_differs else as_good)


def _doubt(scores: np.ndarray) -> float | None:
    """Half of Tukey's honestly significant difference between the means of rows (settings, seeds).

    Seeds are blocks: what a seed adds to the score of every setting is no doubt about their difference. The studentized
    range accounts for picking the best of many settings after the fact. For a single setting, half the confidence
    interval of its mean. Source: Tukey, The problem of multiple comparisons (1953).
    """
    settings, seeds = scores.shape
    if seeds < 2:
        return None
    # imported here: it takes seconds, and most plots have one seed
    from scipy.stats import studentized_range, t

    if settings < 2:
        spread = float(scores.std(ddof=1)) / math.sqrt(seeds)
        return float(t.ppf((1 + CONFIDENCE) / 2, seeds - 1)) * spread
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0, keepdims=True) + scores.mean()
    freedom = (settings - 1) * (seeds - 1)
    error = math.sqrt(float((rest**2).sum()) / freedom / seeds)
    return float(studentized_range.ppf(CONFIDENCE, settings, freedom)) * error / 2
