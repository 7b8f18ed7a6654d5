"""What a merger shows on its node: for which family, how much was merged, in what time, what the cut to a rank lost,
and the notes on what is doubtful."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Lora
from ..merge.compute.context import Compute


class ResultLine:
    """Watches one merge: `line = ResultLine()`, merge with `line.watching(compute)`, then `line.of(lora)`."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._kept = 0.0
        self._total = 0.0

    def watching(self, compute: Compute) -> Compute:
        return replace(compute, report_truncation=self._add)

    def of(self, lora: Lora) -> str:
        if not lora.modules:
            return "No modules: every LoRA has strength 0."
        ranks = [module.rank for module in lora.modules.values()]
        low, high = min(ranks), max(ranks)
        parts = [
            f"{len(ranks)} module{'s' * (len(ranks) > 1)}",
            f"rank {high}" if low == high else f"rank {low} to {high}",
            f"{time.perf_counter() - self._start:.1f} s",
        ]
        if self._total > 0:
            parts.append(f"{_percent(self.lost)} lost to the rank")
        architecture = architecture_of(lora)
        if architecture is not None:
            parts.insert(0, architecture.name)
        return "\n".join([", ".join(parts), *lora.notes])

    @property
    def lost(self) -> float:
        """The norm of what the cuts took away as a share of the norm of all deltas."""
        # the two norms are summed apart: where nothing is cut, rounding can put them a hair either way
        return math.sqrt(max(0.0, 1 - self._kept / self._total)) if self._total else 0.0

    def _add(self, kept: float, total: float) -> None:
        self._kept += kept
        self._total += total


def _percent(share: float) -> str:
    if share < 0.0005:
        return "0 %"
    return f"{100 * share:.1f} %"
