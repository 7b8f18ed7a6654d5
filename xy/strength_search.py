"""Runs a search for strengths: samples, scores and shows one picture after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.model_management
from torch import Tensor

from ..merge.errors import LoraError
from .capsule import Capsule
from .cell import strength_name
from .grid_axis import GridAxis
from .grid_run import Encoder, Inputs, in_floats, sample_cells
from .progress import GridProgress
from .references import PlottedLora, split_given
from .sampling import Sampling
from .scoring import (
    SAMPLED_REFERENCES,
    Embed,
    References,
    black_references,
    is_black,
    no_difference_between,
    no_effect,
    score,
)
from .search import Point, Search, Trial
from .sweep import Sweep
from .verdict import Verdict

log = logging.getLogger(__name__)

# (picture (height, width, 3) in bytes, caption)
Show = Callable[[Tensor, str], None]


@dataclass
class StrengthSearch:
    """A search over the strengths of a sweep's LoRAs: ``names`` by their number in the sweep, from 1.

    Call ``run()`` once; the rest can be asked afterwards, also if the user has stopped it.
    """

    inputs: Inputs
    sweep: Sweep
    names: dict[int, str]
    sampling: Sampling
    embed: Embed
    search: Search
    begins: Callable[[str], None] = lambda caption: None
    show: Show = lambda picture, caption: None
    given: Tensor | None = None  # references: (pictures, height, width, 3), first without LoRAs, then of each alone
    stopped: bool = False
    remarks: list[str] = field(default_factory=list)
    pictures: dict[Point, Tensor] = field(default_factory=dict)  # with the first seed: (1, height, width, 3)
    places: dict[Point, int] = field(default_factory=dict)  # of these among all pictures, from 0
    seen: int = 0

    def __post_init__(self) -> None:
        self._encoder = Encoder(self.inputs.clip)

    def run(self) -> None:
        """Sample until the budget is spent or the user presses stop.

        A stop before the first score raises ComfyUI's interrupt exception; a later one ends the search with what it
        has. Raises LoraError if a LoRA alone looks like none.
        """
        log.info("PM Find Strengths: %d pictures x %d steps", self.search.budget, self.sampling.steps)
        with GridProgress(self.search.budget * self.sampling.steps) as progress:
            try:
                self._run(progress)
            except comfy.model_management.InterruptProcessingException:
                if self.search.best() is None:
                    raise
                self.stopped = True

    def settings(self, point: Point) -> dict[str, Any]:
        return {strength_name(number): strength for number, strength in zip(self.names, point, strict=True)}

    def best(self) -> Point:
        best = self.search.best()
        if best is None:
            raise LoraError("Nothing was sampled.")
        return best

    def report(self) -> str:
        """A line for each point in the order of sampling, remarks, and the best."""
        lines = [
            f"{self._text(point)}: score {_mean(scores):.3f}{f' ({len(scores)} seeds)' if len(scores) > 1 else ''}"
            for point, scores in self.search.scores.items()
        ]
        verdict = self.search.verdict()
        if self.stopped:
            lines.append(f"stopped after {self.seen} of {self.search.budget} pictures; the next run goes on from here")
        elif self.seen + self.search.plan.seeds <= self.search.budget:
            lines.append(f"ended after {self.seen} of {self.search.budget} pictures: the range has no other strengths")
        lines += self.remarks
        if verdict is not None:
            lines += self._conclusion(verdict)
        return "\n".join(lines)

    def _conclusion(self, verdict: Verdict[Point]) -> list[str]:
        best, highest = self.best(), self.search.highest()
        # a search that was stopped may have seen the start with fewer seeds than those that the doubt is about
        doubt = "" if verdict.doubt is None or best not in verdict.means else f" +- {verdict.doubt:.3f}"
        lines = [f"best: {self._text(best)}: score {_mean(self.search.scores[best]):.3f}{doubt}"]
        if best != highest:
            more = ". A larger budget sees several seeds, and can tell smaller differences"
            stays = f"nothing is better than {self._text(best)} beyond doubt, so that stays"
            lines.insert(0, stays + more * (self.search.plan.seeds == 1))
        elif (
            best == self.search.start and verdict.doubt is not None and verdict.best is None and len(verdict.means) > 1
        ):
            lines.insert(0, "no difference between the best strengths that the seeds' noise wouldn't explain")
        return lines

    def _run(self, progress: GridProgress) -> None:
        known = self._references(progress)

        def scored(trial: Trial) -> float:
            capsule = Capsule(self.sweep, self.settings(trial.strengths), self._text(trial.strengths), 0)
            picture = self._sample(capsule, trial.seed, progress, self._text(trial.strengths))
            found = score(self.embed(in_floats(picture[None])), known)
            if trial.seed == 0:
                self.pictures[trial.strengths] = in_floats(picture[None])
                self.places[trial.strengths] = self.seen - 1
            self.show(picture, f"{' / '.join(_short(trial.strengths))}: {found:.3f}")
            return found

        self.search.run(scored)

    def _references(self, progress: GridProgress) -> References:
        """What is given, or the average of all seeds."""
        known = self._usable(self._sampled(progress) if self.given is None else self._embedded(self.given))
        names = list(self.names.values())
        self.remarks += [no_difference_between(names[a], names[b]) for a, b in known.alike()]
        return known

    def _embedded(self, given: Tensor) -> list[list[Tensor]]:
        kinds = [None, *self.names.values()]
        pictures = zip(kinds, split_given(given, len(self.names)), strict=True)
        return [[self._reference(one[None], name) for one in several] for name, several in pictures]

    def _sampled(self, progress: GridProgress) -> list[list[Tensor]]:
        loras = [PlottedLora(self.sweep, number, self.search.largest) for number in self.names]
        embeddings: list[list[Tensor]] = [[] for _ in [None, *loras]]
        for seed in range(self.search.plan.seeds):
            for place, lora in enumerate([None, *loras]):
                caption = "no LoRA" if lora is None else f"{lora.name} alone"
                picture = self._sample(None if lora is None else lora.alone(), seed, progress, caption)
                embeddings[place].append(self._reference(in_floats(picture[None]), lora and lora.name))
                self.show(picture, caption)
            self._usable(embeddings)  # a LoRA without effect is told before the budget is spent
        self.remarks.append(SAMPLED_REFERENCES)
        return embeddings

    def _reference(self, picture: Tensor, name: str | None) -> Tensor:
        """The embedding of a LoRA alone, or of none. Raises LoraError if the picture is black."""
        if is_black(picture):
            raise LoraError(black_references(["no LoRA" if name is None else f"{name} alone"]))
        return self.embed(picture)

    def _usable(self, embeddings: list[list[Tensor]]) -> References:
        """Raises LoraError if a LoRA alone looks like none."""
        known = References.of(embeddings)
        if nothing := known.without_effect():
            names = list(self.names.values())
            raise LoraError(no_effect([names[one] for one in nothing]))
        return known

    def _sample(self, capsule: Capsule | None, seed: int, progress: GridProgress, caption: str) -> Tensor:
        """A picture (height, width, 3) in bytes, kept from an earlier run if it can be."""
        self.begins(caption)
        sampling = replace(self.sampling, seed=(self.sampling.seed + seed) % 2**64)
        with progress.sampling(sampling.steps):
            cell = GridAxis([capsule]), GridAxis([None]), {(0, 0): sampling}
            ((_, picture),) = sample_cells(self.inputs, *cell, encoder=self._encoder, told="")
        self.seen += 1
        return picture

    def _text(self, point: Point) -> str:
        return ", ".join(f"{name} {text}" for name, text in zip(self.names.values(), _short(point), strict=True))


def _short(point: Point) -> list[str]:
    return [f"{strength:.4f}".rstrip("0").ljust(len(f"{strength:.2f}"), "0") for strength in point]


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores) + 0.0
