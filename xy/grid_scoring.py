"""Scores for PM XY Grid: samples the references of a plot, encodes all pictures, and scores the cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .embeddings import embedder
from .grid_axis import GridAxis
from .grid_run import Inputs, in_floats, sample_cells
from .grid_scores import GridScores, score_grid, settings_of, why_unscored
from .pick import Place
from .references import PlotReferences, references_of, split_given
from .sampling import Sampling
from .scoring import SAMPLED_REFERENCES, Embed


@dataclass(frozen=True)
class GridScoring:
    """How a plot is scored. ``given``: the references if the user has connected them. ``problem``: why it can't be."""

    embed: Embed
    x: GridAxis
    y: GridAxis
    plan: dict[Place, Sampling]
    references: PlotReferences
    given: Tensor | None
    problem: str | None

    @classmethod
    def of(
        cls, clip_vision: Any, given: Tensor | None, x: GridAxis, y: GridAxis, plan: dict[Place, Sampling]
    ) -> GridScoring:
        """Raises LoraError if the given references aren't those of this plot, or ``clip_vision`` is no encoder."""
        references = references_of(x, y, plan)
        problem = why_unscored(references, None if given is None else list(given))
        return cls(embedder(clip_vision), x, y, plan, references, given, problem)

    @property
    def steps(self) -> int:
        """Of all references that are to be sampled."""
        if self.problem or self.given is not None:
            return 0
        return sum(sampling.steps for sampling in self.references.cells.values())

    def score(self, inputs: Inputs, cells: Mapping[Place, Tensor]) -> GridScores:
        """Sample the references, unless they are given or kept, and score the cells (height, width, 3) in bytes."""
        if self.problem:
            return GridScores({}, {}, None, None, (self.problem,))
        pictures = {place: in_floats(picture[None]) for place, picture in cells.items()}
        settings = settings_of(self.x, self.y, self.plan)
        scores = score_grid(self.embed, self.references, self._references(inputs), pictures, self.plan, settings)
        if self.given is None and scores.scores:
            return replace(scores, remarks=(*scores.remarks, SAMPLED_REFERENCES))
        return scores

    def _references(self, inputs: Inputs) -> dict[Place, Tensor]:
        wanted = self.references
        if self.given is not None:
            kinds = split_given(self.given, len(wanted.loras))
            return {(column, row): kinds[column] for column, row in wanted.cells}
        sampled = sample_cells(inputs, wanted.x, wanted.y, wanted.cells, told="PM XY Grid, to compare with")
        return {place: in_floats(picture[None]) for place, picture in sampled}
