"""Searches the strengths of several LoRAs for the best score, with a budget of pictures.

A Sobol sequence spreads the first points. The better half is then seen with a second seed, the better half of those
with a third (successive halving). What is left of the budget goes to the maximum of a quadratic that is fitted around
the best point, again and again. Nothing is drawn at random: the same scores lead to the same points, so that a search
that was stopped goes on from its kept pictures.

The strengths that the search starts from stay, unless others are better beyond doubt: a score is noisy, and the best of
many points is the best by luck to some degree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ..merge.errors import LoraError
from .quadratic import Observations, fit
from .verdict import CONFIDENCE, Verdict, judge

Point = tuple[float, ...]  # a strength for each LoRA

MOST_SEEDS = 3
REFERENCES_SHARE = 1 / 3  # of the budget, at most, for references: their number rises with the seeds
EXPLORING_SHARE = 0.6  # of the budget without references, for the Sobol points and the halving
DRAWS = 4  # for each of the first points; one LoRA in a narrow range has fewer strengths than a large budget asks for
CANDIDATES = 1024  # points at which a quadratic is looked at for its maximum
FIRST_RADIUS, SHRINK, LAST_RADIUS = 0.5, 0.75, 0.1  # of the region around the best point, in parts of the range
APART = 0.02  # of the range: points closer than this aren't worth another picture


@dataclass(frozen=True)
class Trial:
    """A picture to be sampled and scored; ``seed`` counts from 0."""

    strengths: Point
    seed: int


@dataclass(frozen=True)
class Plan:
    """How a budget is spent: Sobol points, seeds, and pictures for the end."""

    points: int
    seeds: int
    local: int


def references(loras: int) -> int:
    """The pictures that each seed needs for comparison: without LoRAs, and with each alone."""
    return loras + 1


def plan(budget: int, loras: int, given: bool = False) -> Plan:
    """``given``: the references cost nothing. Raises LoraError if the budget can't pay for them and for two points."""
    least = 2 if given else references(loras) + 2
    if budget < least:
        compared = "" if given else f"{references(loras)} to compare with, and "
        raise LoraError(
            f"The budget is {budget} pictures; {loras} LoRA{'s need' if loras != 1 else ' needs'} {least} or more: "
            f"{compared}2 to choose from."
        )
    affordable = int(budget * REFERENCES_SHARE) // references(loras)  # the more pictures, the more seeds
    seeds = max(1, min(MOST_SEEDS, affordable))
    left = budget - (0 if given else seeds * references(loras))
    exploring = max(2, round(left * EXPLORING_SHARE))
    points = max(n for n in range(1, exploring + 1) if sum(_rounds(n, seeds)) <= exploring or n == 1)
    return Plan(points, seeds, left - sum(_rounds(points, seeds)))


def _rounds(points: int, seeds: int) -> list[int]:
    """The number of points that are seen with each seed."""
    return [max(1, math.ceil(points / 2**seed)) for seed in range(seeds)]


@dataclass
class Search:
    """The scores so far. ``trials()`` says what to sample next; ``best()`` and ``verdict()`` may be asked at any time.

    Strengths are from ``low`` to ``high``. Raises LoraError if that is no range, or if the budget is too small.
    """

    loras: int
    low: float
    high: float
    budget: int
    given: bool = False  # the references are there and cost nothing
    scores: dict[Point, list[float]] = field(default_factory=dict)  # of each point by seed, in the order of sampling

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise LoraError(f"min_strength ({self.low:g}) must be below max_strength ({self.high:g}).")
        self.plan = plan(self.budget, self.loras, self.given)

    def trials(self) -> Generator[Trial, float, None]:
        """Yields trials; send the score of each. References are the caller's: ``references`` for each seed."""
        points = self._first_points()
        for seed, count in enumerate(_rounds(len(points), self.plan.seeds)):
            if seed:
                points = self._ranked(points)[:count]
                if self.start not in points:  # what the best is compared with
                    points[-1] = self.start
            for point in points:
                yield from self._try(point, seed)
        radius, left = FIRST_RADIUS, self.plan.local
        while left >= self.plan.seeds:
            point = self._promising(radius)
            if point is None:
                return
            for seed in range(self.plan.seeds):
                yield from self._try(point, seed)
            left -= self.plan.seeds
            radius = max(LAST_RADIUS, radius * SHRINK)

    def run(self, score: Callable[[Trial], float]) -> None:
        """Ask for the score of one trial after the other until the budget is spent."""
        trials = self.trials()
        trial = next(trials, None)
        while trial is not None:
            found = score(trial)
            try:
                trial = trials.send(found)
            except StopIteration:
                return

    @property
    def start(self) -> Point:
        """All LoRAs at strength 1, or at what is nearest to it in the range; -1 if no strength is above 0."""
        usual = 1.0 if self.high > 0 else -1.0
        return (min(max(usual, self.low), self.high),) * self.loras

    @property
    def largest(self) -> float:
        """The strength at which each LoRA alone is what to come close to: the highest, of negative ones the lowest."""
        return self.high if self.high > 0 else self.low

    def highest(self) -> Point | None:
        """The point with the highest mean score among those seen with the most seeds; None before the first score."""
        return self._ranked(list(self.scores))[0] if self.scores else None

    def best(self) -> Point | None:
        """The highest point if it is better than the start beyond doubt, else the start; None before the first score.

        Either their scores differ by more than the doubt of the seeds, or a quadratic through all scores does.
        """
        highest, verdict = self.highest(), self.verdict()
        if highest is None or verdict is None or highest == self.start:
            return highest
        several_seeds = verdict.doubt is not None and self.start in verdict.means
        if several_seeds and verdict.best == highest and self.start not in verdict.as_good:
            return highest
        top, start = self._at([highest, self.start])
        return highest if fit(self._observations(), start).is_higher(top, start, CONFIDENCE) else self.start

    def verdict(self) -> Verdict[Point] | None:
        """What can be said of the points that were seen with the most seeds; None before the first score."""
        if not self.scores:
            return None
        most = max(map(len, self.scores.values()))
        return judge({point: scores for point, scores in self.scores.items() if len(scores) == most})

    def _try(self, point: Point, seed: int) -> Generator[Trial, float, None]:
        score = yield Trial(point, seed)
        self.scores.setdefault(point, []).append(score)

    def _first_points(self) -> list[Point]:
        """The start, and then a Sobol sequence over the range; fewer than planned if the range has no more."""
        engine = torch.quasirandom.SobolEngine(self.loras)
        engine.fast_forward(1)  # the first point has all strengths at the lower end
        points = {self.start: None}
        for _ in range(DRAWS * self.plan.points):
            if len(points) == self.plan.points:
                break
            points[self._point(engine.draw(1).numpy()[0])] = None
        return list(points)

    def _point(self, at: np.ndarray) -> Point:
        """The point at coordinates from 0 to 1, in strengths that are short to write."""
        decimals = 2 if self.high - self.low >= 0.2 else 4
        return tuple(round(float(self.low + (self.high - self.low) * one), decimals) + 0.0 for one in at)

    def _at(self, points: Sequence[Point]) -> np.ndarray:
        """Coordinates from 0 to 1 (points, loras)."""
        return (np.array(points, dtype=np.float64) - self.low) / (self.high - self.low)

    def _ranked(self, points: Sequence[Point]) -> list[Point]:
        """The best first. A point that was seen with more seeds comes first: those were the better ones before."""
        return sorted(points, key=lambda point: (-len(self.scores[point]), -float(np.mean(self.scores[point]))))

    def _promising(self, radius: float) -> Point | None:
        """The maximum of the quadratic within the radius around the highest point; None if all there is known."""
        centre = self._at(self._ranked(list(self.scores))[:1])[0]
        surface = fit(self._observations(), centre, radius)
        low, high = np.maximum(centre - radius, 0), np.minimum(centre + radius, 1)
        spread = torch.quasirandom.SobolEngine(self.loras).draw(CANDIDATES).numpy().astype(np.float64)
        # points on the border of the region too: a maximum is often at full strength
        borders = np.clip(spread * 1.5 - 0.25, 0, 1)
        candidates = low + np.concatenate([spread, borders]) * (high - low)
        known = self._at([point for point, scores in self.scores.items() if len(scores) == self.plan.seeds])
        apart = np.abs(candidates[:, None] - known[None]).max(axis=2).min(axis=1) >= APART
        if not apart.any():
            return None
        candidates = candidates[apart]
        for place in np.argsort(-surface.at(candidates), kind="stable"):
            point = self._point(candidates[place])
            if point not in self.scores:
                return point
        return None

    def _observations(self) -> Observations:
        """All pictures, at coordinates from 0 to 1."""
        rows = [(point, seed, one) for point, scores in self.scores.items() for seed, one in enumerate(scores)]
        points, seeds, scores = zip(*rows, strict=True)
        return Observations(self._at(points), np.array(seeds), np.array(scores, dtype=np.float64))
