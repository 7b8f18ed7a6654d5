"""How much a truncation to a lower rank removed."""

from __future__ import annotations

import math
from dataclasses import replace

from .context import Compute


class TruncationLoss:
    """Adds up what an operation reports while it runs with ``loss.observe(compute)``."""

    def __init__(self) -> None:
        self._kept = 0.0
        self._total = 0.0

    def observe(self, compute: Compute) -> Compute:
        return replace(compute, report_truncation=self._add)

    @property
    def share(self) -> float:
        """The Frobenius norm of everything that was removed, as a share of the norm of all deltas together."""
        # clamped because the two sums are rounded separately: without truncation the ratio can exceed 1 by a hair
        return math.sqrt(max(0.0, 1 - self._kept / self._total)) if self._total else 0.0

    @property
    def kept(self) -> str:
        """The norm of what was kept, in percent of that of all deltas together."""
        share = math.sqrt(min(1.0, self._kept / self._total)) if self._total else 1.0
        return f"{100 * share:.1f} %"

    def __bool__(self) -> bool:
        """Whether anything was truncated."""
        return self._total > 0

    def __str__(self) -> str:
        return "0 %" if self.share < 0.0005 else f"{100 * self.share:.1f} %"

    def _add(self, kept: float, total: float) -> None:
        self._kept += kept
        self._total += total
