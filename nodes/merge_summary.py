"""The text that a merge shows on its node: model family, modules, rank, time, truncation loss, and any warnings."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Lora
from ..merge.compute.context import Compute
from ..merge.inspecting.quick_words import quick_words


class MergeSummary:
    """Times one merge and sums up its truncation loss.

    Create it before the merge, merge with ``summary.observe(compute)``, then call ``summary.describe(merged)``.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._kept = 0.0
        self._total = 0.0

    def observe(self, compute: Compute) -> Compute:
        return replace(compute, report_truncation=self._add)

    def describe(self, lora: Lora, inputs: Sequence[Lora] = ()) -> str:
        """The text; ``inputs`` are the LoRAs that were merged, for a few words on how they relate."""
        if not lora.modules:
            return "Empty result: every LoRA has strength 0."
        ranks = [module.rank for module in lora.modules.values()]
        low, high = min(ranks), max(ranks)
        parts = [
            f"{len(ranks)} module{'s' * (len(ranks) > 1)}",
            f"rank {high}" if low == high else f"rank {low} to {high}",
            f"{time.perf_counter() - self._start:.1f} s",
        ]
        if self._total > 0:
            parts.append(f"{_percent(self.lost)} lost to truncation")
        architecture = architecture_of(lora)
        if architecture is not None:
            parts.insert(0, architecture.name)
        if words := quick_words(inputs):
            parts.append(words)
        return "\n".join([", ".join(parts), *lora.notes])

    @property
    def lost(self) -> float:
        """Frobenius norm of everything truncation removed, as a share of the norm of all deltas."""
        # clamped because the two sums are rounded separately: without truncation the ratio can exceed 1 by a hair
        return math.sqrt(max(0.0, 1 - self._kept / self._total)) if self._total else 0.0

    def _add(self, kept: float, total: float) -> None:
        self._kept += kept
        self._total += total


def _percent(share: float) -> str:
    if share < 0.0005:
        return "0 %"
    return f"{100 * share:.1f} %"
