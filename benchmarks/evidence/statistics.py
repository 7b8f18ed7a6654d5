"""Rates, paired differences and bootstrap intervals.

Pictures of one pair have the same LoRAs, and pictures of one noise the same start: they aren't independent. The
bootstrap therefore draws pairs, and within each drawn pair the noises; a difference is taken between two merges of the
same pair on the same noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
LEVEL = 0.95
FEWEST = 5  # pairs: of fewer, the bootstrap says too little about new ones

# For each case the name of its pair, and a number for each noise.
Outcomes = Mapping[str, tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class Estimate:
    """A mean and the interval that holds the middle ``LEVEL`` of its bootstrap draws."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def is_different(self) -> bool:
        """Whether 0 lies outside the interval, and the pairs are enough to say so."""
        return self.pairs >= FEWEST and (self.low > 0 or self.high < 0)


def estimate(outcomes: Outcomes, seed: int = 0) -> Estimate | None:
    """The mean over pairs, each of the mean over its cases and noises. None without outcomes."""
    of_pairs: dict[str, list[float]] = {}
    for _, (pair, values) in sorted(outcomes.items()):
        of_pairs.setdefault(pair, []).extend(values)
    rows = [np.asarray(row, float) for row in of_pairs.values() if row]
    if not rows:
        return None
    means = _draws(rows, seed)
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(float(np.mean([row.mean() for row in rows])), float(low), float(high), len(rows))


def difference(outcomes: Outcomes, reference: Outcomes, seed: int = 0) -> Estimate | None:
    """Outcomes less those of the reference, on the cases and noises that both have."""
    return estimate(paired(outcomes, reference), seed)


def paired(outcomes: Outcomes, reference: Outcomes) -> dict[str, tuple[str, list[float]]]:
    both = [case for case in outcomes if case in reference]
    return {
        case: (outcomes[case][0], [a - b for a, b in zip(outcomes[case][1], reference[case][1], strict=True)])
        for case in both
    }


def _draws(rows: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """The mean of each bootstrap draw. RandomState: numpy keeps its numbers the same for good."""
    random = np.random.RandomState(seed)
    # For each draw and place: a pair, and the mean of that pair's noises, which are drawn again too.
    chosen = random.randint(0, len(rows), (DRAWS, len(rows)))
    means = np.empty(chosen.shape)
    for number, row in enumerate(rows):
        places = chosen == number
        noises = random.randint(0, len(row), (int(places.sum()), len(row)))
        means[places] = row[noises].mean(1)
    return means.mean(1)
