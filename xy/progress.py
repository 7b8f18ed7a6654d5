"""One progress bar over a whole grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.utils

from ..nodes.comfy_bridge import check_interrupt


class GridProgress:
    """Combines the progress of every sampler run, which ComfyUI would show as separate bars, into one for the grid.

    Other progress (merging, tiled decoding) doesn't move it, and the stop button is checked whenever anything reports
    progress. Latent previews aren't passed on: the page would show the last one in place of the grid.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._picture = 0  # steps of the picture being sampled; 0 between pictures
        self._shown = comfy.utils.PROGRESS_BAR_HOOK

    def __enter__(self) -> GridProgress:
        comfy.utils.set_progress_bar_global_hook(self._moved)
        self._report(0)
        return self

    def __exit__(self, *_: object) -> None:
        comfy.utils.set_progress_bar_global_hook(self._shown)

    @contextmanager
    def sampling(self, steps: int) -> Iterator[None]:
        """Context in which a picture with this many steps is sampled."""
        self._picture = steps
        try:
            yield
        finally:
            self._picture = 0
        self.skip(steps)

    def skip(self, steps: int) -> None:
        """Count the steps of a picture that needn't be sampled."""
        self._done += steps
        self._report(0)

    def _moved(self, value: int, total: int, preview: Any = None, **about: Any) -> None:
        check_interrupt()
        if self._picture and total:
            self._report(round(self._picture * value / total), **about)

    def _report(self, part: int, **about: Any) -> None:
        if self._shown is not None:
            self._shown(self._done + part, self._total, None, **about)
