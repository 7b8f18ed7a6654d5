"""One cell of a plot: the settings of its merge, and the merge itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..merge.adapters.base import Adapter, Lora
from ..merge.compute.context import Compute
from ..merge.merging.key_resolver import ModelNames, resolver_for
from ..merge.merging.matching import group_by_weight
from ..merge.merging.merge_deltas import merge_deltas
from ..merge.merging.merge_factors import merge_factors, require_factors
from ..merge.merging.options import AS_GIVEN, OF_THE_MODE, MergeOptions
from ..merge.methods.parameters import complete
from ..merge.methods.registry import SVD_SUFFIX, Method, method_of


@dataclass(frozen=True)
class Cell:
    """The settings of one merge of LoRA a and LoRA b. Axes refer to the fields by name.

    Modes that end in _svd merge like PM Merge LoRA SVD, with ``rank`` for both svd_rank and svd_conv_rank (0: the
    largest rank among the inputs); the others merge like PM Merge LoRA.
    """

    mode: str
    strength_a: float = 1.0
    strength_b: float = 1.0
    density: float = 1.0
    rank: int = 0
    strength_rule: str = OF_THE_MODE
    weights: str = AS_GIVEN
    parameters: tuple[tuple[str, float], ...] = ()  # of methods, by name

    @classmethod
    def of(cls, mode: str, options: MergeOptions, **settings: Any) -> Cell:
        """A cell with the options of a merge node."""
        parameters = tuple(options.parameters.items())
        return cls(
            mode, **settings, strength_rule=options.strength_rule, weights=options.weights, parameters=parameters
        )

    @property
    def options(self) -> MergeOptions:
        """Raises LoraError for unknown names and values out of range."""
        return MergeOptions(self.strength_rule, self.weights, dict(self.parameters))

    @property
    def method(self) -> Method:
        """Raises LoraError for an unknown mode."""
        return method_of(self.mode)

    @property
    def on_deltas(self) -> bool:
        return self.mode.endswith(SVD_SUFFIX)

    def essential(self) -> Cell:
        """The cell with the settings that its mode ignores reset to their defaults: equal ones have the same merge."""
        return replace(
            self,
            density=self.density if self.method.uses_density else 1.0,
            rank=self.rank if self.on_deltas else 0,
            parameters=tuple(complete(self.method.parameters, dict(self.parameters)).items()),
        )

    def check(self, loras: Sequence[Lora]) -> None:
        """Raise LoraError if merging these LoRAs would fail, as far as can be told without merging."""
        # weight-dependent modules can be checked only with a model, when the cell is sampled
        known = [replace(lora, modules=_without_base(lora)) for lora in loras]
        groups = group_by_weight(known, resolver_for(known))
        if not self.on_deltas and self.method.kernel is not None:
            require_factors(groups, self.mode)

    def merge(self, a: Lora, b: Lora, seed: int, compute: Compute, model: ModelNames | None = None) -> Lora:
        """The merge, bit for bit what the merge node gives for a as its first input and b as its second.

        A LoRA at strength 0 is passed on too, because the masks of the dare modes depend on the input index. Raises
        LoraError like the merge nodes.
        """
        if self.on_deltas:
            ranks = self.rank, self.rank
            return merge_deltas([a, b], self.mode, self.density, *ranks, seed, compute, model, self.options)
        return merge_factors([a, b], self.mode, self.density, seed, compute, model, self.options)


def _without_base(lora: Lora) -> dict[str, Adapter]:
    return {key: module for key, module in lora.modules.items() if not module.is_weight_dependent}
