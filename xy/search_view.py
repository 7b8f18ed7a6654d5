"""Shows the pictures of a search on its node while they are sampled, as a grid in the order of sampling."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..pictures.labelled_grid import labelled_grid, layout_of
from .grid_run import in_bytes, in_floats
from .live_grid import LiveGrid, PageNode
from .pick import Place, text_of
from .sampling import Sampling


class _LivePictures(LiveGrid):
    """A grid whose cells have captions in place of labels, and whose last row may stay unfilled."""

    def __init__(self, node: PageNode | None, plan: dict[Place, Sampling], total: int, captions: list[str]) -> None:
        super().__init__(node, [], [], plan, told="PM Find Strengths")
        self._total, self._captions = total, captions
        self.sampling = ""  # the caption of the picture that is being sampled

    def state(self) -> dict[str, Any]:
        return super().state() | {"total": self._total, "labels": [*self._captions, self.sampling]}


class SearchView:
    """Pictures come in by ``begins`` and ``finished``; ``picture`` is the grid of all of them in the end."""

    def __init__(self, node: PageNode | None, budget: int, sampling: Sampling) -> None:
        self._columns = math.ceil(math.sqrt(budget))
        rows = math.ceil(budget / self._columns)
        plan = {self._place(number): sampling for number in range(rows * self._columns)}
        self._budget = budget
        self._workflow = None if node is None else node.workflow
        self._captions: list[str] = []
        self._live = _LivePictures(node, plan, budget, self._captions)
        self._pictures: list[Tensor] = []  # each with its caption below, in bytes

    def begins(self, caption: str) -> None:
        self._live.sampling = caption
        self._live.begins(self._place(len(self._pictures)))

    def finished(self, picture: Tensor, caption: str) -> None:
        """A picture (height, width, 3) in bytes."""
        self._captions.append(caption)
        captioned = in_bytes(labelled_grid(in_floats(picture[None]), 1, captions=[caption]))
        self._live.finished(self._place(len(self._pictures)), captioned)
        self._pictures.append(captioned)

    def stopped(self) -> None:
        self._live.stopped()

    def picture(self, best: int) -> Tensor:
        """All pictures with their captions (1, height, width, 3), a frame around the best, counted from 0."""
        columns = min(self._columns, len(self._pictures))
        missing = -len(self._pictures) % columns
        cells = [*(in_floats(picture) for picture in self._pictures), *[None] * missing]
        return labelled_grid(cells, columns, frame=(best % columns, best // columns))

    def state(self, stopped: bool) -> dict[str, Any]:
        """What the page needs to show picture(). ``stopped``: whether pictures are missing."""
        columns = min(self._columns, len(self._pictures))
        cells = [*self._pictures, *[None] * (-len(self._pictures) % columns)]
        places = [(number % columns, number // columns) for number in range(len(self._pictures))]
        return {
            "size": [columns, len(cells) // columns],
            "columns": [],
            "rows": [],
            "done": [text_of(place) for place in places],
            "now": None,
            "seconds_left": None,
            "layout": layout_of(cells, columns).shares(),
            "workflow": self._workflow,
            "total": self._budget if stopped else len(self._pictures),
            "labels": list(self._captions),
        }

    def _place(self, number: int) -> Place:
        return number % self._columns, number // self._columns
