"""PM Find Strengths against a grid with as many pictures: which finds strengths whose pictures show both more often?

Both see the encoder's score alone. The judges then read pictures of the strengths that were found, on other noises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from . import glyphs, merges
from .base import Base, sample
from .cases import Case
from .evaluate import NOISES, STEPS, Judges, patched
from .image_encoder import ImageEncoder
from .lora_files import read_deltas
from .mmdit import MMDiT
from .pack import part_of_pack
from .references import References, checked, scoring
from .settings import Setting
from .statistics import Outcomes, difference, estimate
from .units import read_json

search_of = part_of_pack("xy.search")

LOW = 0.0
DEFAULT_HIGH = 1.0  # the range that the node starts with
SEARCH_NOISES = 30_000
FRESH = 24  # pictures of what was found, whose noises no search has seen
GIVEN, SEARCH, GRID, SEEDS_GRID = "as given", "search", "grid", "grid of three noises"

Point = tuple[float, ...]


@dataclass(frozen=True)
class Wanted:
    """A search for strengths from LOW to ``high``: ``budget`` in pictures; ``given``: the references are pictures of
    each LoRA with its own prompt."""

    mode: str
    budget: int
    given: bool
    high: float = DEFAULT_HIGH

    @property
    def key(self) -> str:
        return f"{self.mode}_{self.budget}_{'given' if self.given else 'sampled'}_{self.high:g}"


# On many pairs, since the differences are small, and on a few.
ON_MANY = (Wanted("concat", 40, True), Wanted("concat", 20, True))
ON_FEW = (Wanted("ties_svd", 40, True), Wanted("concat", 40, True, 1.5), Wanted("concat", 40, False))
SEARCHES = (*ON_MANY, *ON_FEW)


@dataclass
class Pictures:
    """Draws and scores one picture after the other; ``seen`` counts them."""

    base: Base
    encoder: ImageEncoder
    case: Case
    files: Sequence[Path]
    mode: str
    high: float  # strengths are from LOW to here
    merged: Path  # a file for the merge, written again for each
    given: References | None  # None: they are sampled, and count
    seen: int = 0
    last: tuple[Point, MMDiT] | None = None  # strengths and their model, for the next noise

    def draw(self, point: Point, noises: Sequence[int]) -> np.ndarray:
        if self.last is None or self.last[0] != point:
            self.last = point, self._model(point)
        self.seen += len(noises)
        prompts = [glyphs.prompt(*self.case.target(0))] * len(noises)
        return sample(self.base, prompts, noises, STEPS, self.last[1])

    def _model(self, point: Point) -> MMDiT:
        loaded = [(file, strength) for file, strength in zip(self.files, point, strict=True) if strength]
        if not loaded:
            return self.base.model
        merges.merge(loaded, Setting(self.mode), self.merged)
        return patched(self.base.model, read_deltas(self.merged, self.base.model.state_dict()))

    def embed(self, point: Point, seed: int) -> Tensor:
        return self.encoder.embed(self.draw(point, [SEARCH_NOISES + seed]))[0]

    def references(self, seeds: int) -> References:
        """The average of ``seeds`` noises. Raises ValueError where a LoRA shows nothing: the node refuses it too."""
        if self.given is not None:
            return self.given
        count = len(self.files)
        points = [(0.0,) * count, *(tuple(self.high * (one == each) for one in range(count)) for each in range(count))]
        known = checked([[self.embed(point, seed) for seed in range(seeds)] for point in points])
        if known is None:
            raise ValueError(f"{self.case.pair}: a LoRA alone changes nothing at strength {self.high:g}.")
        return known


def compare(pictures: Pictures, judges: Judges, budget: int) -> dict[str, dict[str, Any]]:
    """For each way of choosing the strengths: those, the pictures that it took, and which of FRESH show both."""
    ways: Mapping[str, Callable[[Pictures, int], Point]] = {
        GIVEN: lambda pictures, _: (1.0,) * len(pictures.files),
        SEARCH: _search,
        GRID: lambda pictures, budget: _grid(pictures, budget, 1),
        SEEDS_GRID: lambda pictures, budget: _grid(pictures, budget, 3),
    }
    found = {}
    for name, way in ways.items():
        pictures.seen = 0
        point = way(pictures, budget)
        seen = pictures.seen
        found[name] = {"strengths": list(point), "pictures": seen, "both": _both(pictures, judges, point)}
    return found


def summarised(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """For each search the rates of both by every way, and the search's difference to each other way."""
    found: dict[str, list[Any]] = {}
    for path in files:
        one = read_json(path)
        found.setdefault(one["search"], []).append(one)
    return {wanted.key: _rows(found[wanted.key]) for wanted in SEARCHES if wanted.key in found}


def _rows(searches: Sequence[Any]) -> dict[str, dict[str, Any]]:
    def both(way: str) -> Outcomes:
        return {one["pair"]: (one["pair"], one["ways"][way]["both"]) for one in searches}

    rows = {}
    for way in (GIVEN, SEARCH, GRID, SEEDS_GRID):
        rate, gain = estimate(both(way)), difference(both(SEARCH), both(way))
        assert rate and gain
        rows[way] = {
            "pairs": len(searches),
            "pictures": max(one["ways"][way]["pictures"] for one in searches),
            "both": [round(value, 4) for value in (rate.mean, rate.low, rate.high)],
            "search": [round(value, 4) for value in (gain.mean, gain.low, gain.high)],
        }
    return rows


def _search(pictures: Pictures, budget: int) -> Point:
    search = search_of.Search(len(pictures.files), LOW, pictures.high, budget, given=pictures.given is not None)
    known = pictures.references(search.plan.seeds)
    search.run(lambda trial: scoring.score(pictures.embed(trial.strengths, trial.seed), known))
    return search.best()


def _grid(pictures: Pictures, budget: int, seeds: int) -> Point:
    """The best cell of the largest square grid that the budget pays for, with its references."""
    known = pictures.references(seeds)
    cells = (budget - pictures.seen) // seeds
    values = np.linspace(LOW, pictures.high, int(cells ** (1 / len(pictures.files)) + 1e-9)).round(2).tolist()
    scores = {
        point: np.mean([scoring.score(pictures.embed(point, seed), known) for seed in range(seeds)])
        for point in product(values, repeat=len(pictures.files))
    }
    return max(scores, key=lambda point: scores[point])


def _both(pictures: Pictures, judges: Judges, point: Point) -> list[int]:
    drawn = pictures.draw(point, [NOISES + number for number in range(FRESH)])
    target = pictures.case.target(0)
    characters, fonts = judges.character.name(drawn), judges.font.name(drawn)
    return [int((a, b) == target) for a, b in zip(characters, fonts, strict=True)]
