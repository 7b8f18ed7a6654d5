"""One progress bar over a whole grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.utils

from ..nodes.comfy_bridge import check_interrupt


class GridProgress:
    """Turns the bars of the samplers, which ComfyUI starts anew for every picture, into one for the grid.

    What else has a bar (merging, decoding in tiles) lets this one stand where it is. Previews go through, and the
    stop button works everywhere that a bar moves.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._picture = 0  # steps of the picture that is being sampled
        self._shown = comfy.utils.PROGRESS_BAR_HOOK

    def __enter__(self) -> GridProgress:
        comfy.utils.set_progress_bar_global_hook(self._moved)
        self._report(0)
        return self

    def __exit__(self, *_: object) -> None:
        comfy.utils.set_progress_bar_global_hook(self._shown)

    @contextmanager
    def sampling(self, steps: int) -> Iterator[None]:
        """While a picture of so many steps is sampled."""
        self._picture = steps
        try:
            yield
        finally:
            self._picture = 0
        self._done += steps
        self._report(0)

    def _moved(self, value: int, total: int, preview: Any = None, **about: Any) -> None:
        check_interrupt()
        if self._picture and total:
            self._report(round(self._picture * value / total), preview, **about)

    def _report(self, part: int, preview: Any = None, **about: Any) -> None:
        if self._shown is not None:
            self._shown(self._done + part, self._total, preview, **about)
