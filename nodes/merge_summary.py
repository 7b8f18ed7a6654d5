"""The text that a merge shows on its node: family, modules, rank, time, what went in, what was lost, any warnings."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Lora
from ..merge.compute.context import Compute
from ..merge.compute.truncation_loss import TruncationLoss
from ..merge.inspecting.quick_words import quick_words
from ..merge.merging.options import AS_GIVEN, EQUAL_ENERGY, OF_THE_MODE, MergeOptions
from ..merge.methods.registry import Method
from .lora_text import count, ranks, with_strengths


class MergeSummary:
    """Times one merge and sums up its truncation loss.

    Create it before the merge, merge with ``summary.observe(compute)``, then call ``summary.describe(...)``.
    """

    def __init__(self, method: Method, density: float, options: MergeOptions) -> None:
        self._drops_nothing = method.uses_density and density >= 1
        self._options = options
        self._start = time.perf_counter()
        self._loss = TruncationLoss()

    def observe(self, compute: Compute) -> Compute:
        return self._loss.observe(compute)

    def describe(self, merged: Lora, inputs: Sequence[Lora]) -> str:
        """The text about the result of merging these LoRAs. All are named, so that a bypassed loader is noticed."""
        lines = [self._result(merged, inputs), with_strengths(inputs)]
        if merged.modules and self._loss:
            lines.append(f"{self._loss} lost to truncation")
        return "\n".join([*lines, *merged.notes])

    def _result(self, merged: Lora, inputs: Sequence[Lora]) -> str:
        modules = list(merged.modules.values())
        if not modules:
            return "Empty result: every LoRA is empty or at strength 0."
        parts = [count(modules), f"rank {ranks(modules)}", f"{time.perf_counter() - self._start:.1f} s"]
        architecture = architecture_of(merged)
        if architecture is not None:
            parts.insert(0, architecture.name)
        if self._drops_nothing:
            parts.append("density 1: nothing dropped")
        if self._options.strength_rule != OF_THE_MODE:
            parts.append(f"strength {self._options.strength_rule}")
        if self._options.weights != AS_GIVEN:
            parts.append(f"weights: {self._options.weights}")
        if words := quick_words(inputs, are_equalised=self._options.weights == EQUAL_ENERGY):
            parts.append(words)
        return ", ".join(parts)
