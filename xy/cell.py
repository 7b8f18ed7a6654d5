"""One cell of a plot: the settings that its merge depends on, and the merge itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..merge.adapters.base import Adapter, Lora
from ..merge.compute.context import Compute
from ..merge.merging.key_resolver import ModelNames, resolver_for
from ..merge.merging.matching import group_by_weight
from ..merge.merging.merge_deltas import merge_deltas
from ..merge.merging.merge_factors import merge_factors, require_factors
from ..merge.methods.registry import SVD_SUFFIX, Method, delta_method, factor_method


@dataclass(frozen=True)
class Cell:
    """The settings of one merge of LoRA a and LoRA b, by the names that the axes use.

    Modes that end in _svd merge as PM Merge LoRA SVD does, with ``rank`` for both of its ranks (0: the largest among
    the inputs), the others as PM Merge LoRA.
    """

    mode: str
    strength_a: float = 1.0
    strength_b: float = 1.0
    density: float = 1.0
    rank: int = 0

    @property
    def method(self) -> Method:
        """Raises LoraError for an unknown mode."""
        return delta_method(self.mode) if self.on_deltas else factor_method(self.mode)

    @property
    def on_deltas(self) -> bool:
        return self.mode.endswith(SVD_SUFFIX)

    def essential(self) -> Cell:
        """The same with what its mode ignores left at the default: cells with equal ones have the same merge."""
        return replace(
            self,
            density=self.density if self.method.uses_density else 1.0,
            rank=self.rank if self.on_deltas else 0,
        )

    def check(self, loras: Sequence[Lora]) -> None:
        """Raise LoraError for what would make the merge of these LoRAs fail, as far as it shows without merging."""
        # what needs a model's weight is known in the cell alone
        known = [replace(lora, modules=_without_base(lora)) for lora in loras]
        groups = group_by_weight(known, resolver_for(known))
        if not self.on_deltas and self.method.consensus is not None:
            require_factors(groups, self.mode)

    def merge(self, a: Lora, b: Lora, seed: int, compute: Compute, model: ModelNames | None = None) -> Lora:
        """What the merger node gives for a as its first and b as its second input, to the bit.

        Both are passed on at any strength, since a LoRA's number counts in the dare modes. Raises LoraError as the
        mergers do.
        """
        if self.on_deltas:
            return merge_deltas([a, b], self.mode, self.density, self.rank, self.rank, seed, compute, model)
        return merge_factors([a, b], self.mode, self.density, seed, compute, model)


def _without_base(lora: Lora) -> dict[str, Adapter]:
    return {key: module for key, module in lora.modules.items() if not module.needs_base}
