"""How fast the cells of a plot are sampled."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Estimates the time that is left from that of the cells so far, merging and decoding included."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: float | None = None
        self._steps = 0
        self._seconds = 0.0

    def begins(self) -> None:
        """Sampling begins; later calls change nothing."""
        if self._started is None:
            self._started = self._clock()

    def finished(self, steps: int) -> None:
        """A cell with this many steps is finished."""
        if self._started is not None:
            self._steps += steps
            self._seconds = self._clock() - self._started

    def seconds_for(self, steps: int) -> float | None:
        """An estimate for this many more steps; None before the first cell is finished."""
        return self._seconds / self._steps * steps if self._steps else None


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
