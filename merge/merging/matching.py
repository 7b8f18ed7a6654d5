"""Which adapters of several LoRAs meet at a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adapters.base import WEIGHT, Lora, LoraModule, Replacement, needs_model
from ..adapters.combine import low_rank, reshape_of
from ..compute.devices import on_cpu
from ..errors import LoraError
from ..names import Target
from ..numerics.finite import is_finite
from .fused_rows import Contribution, require_same_weight, same_rows
from .key_resolver import KeyResolver


@dataclass(frozen=True, eq=False)
class WeightGroup:
    """A parameter that the merge changes and the LoRAs that change it, in input order."""

    weight: str  # canonical name
    contributions: tuple[Contribution, ...]

    @property
    def name(self) -> str:
        """The first LoRA's spelling."""
        return self.contributions[0].adapter.name

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The parameter's shape, in the convolution's form where any of the LoRAs has it."""
        return max((contribution.adapter.weight_shape for contribution in self.contributions), key=len)

    @property
    def rows(self) -> int:
        return self.weight_shape[0]

    @property
    def columns(self) -> int:
        return math.prod(self.weight_shape[1:])

    @property
    def is_vector(self) -> bool:
        """A bias or a norm: there is no rank to speak of."""
        return len(self.weight_shape) == 1

    @property
    def is_convolution(self) -> bool:
        return math.prod(self.weight_shape[2:]) > 1

    @property
    def is_replacement(self) -> bool:
        return isinstance(self.contributions[0].adapter, Replacement)

    @property
    def rank(self) -> int:
        """The largest rank among the LoRAs."""
        return min(max(contribution.adapter.rank for contribution in self.contributions), self.rows, self.columns)

    def zero(self, dtype: torch.dtype) -> LoraModule:
        """The module that adds nothing: rank 1, since ComfyUI's loader has no rank 0."""
        return self.module(torch.zeros(self.rows, 1), torch.zeros(1, self.columns), dtype)

    def module(self, up: Tensor, down: Tensor, dtype: torch.dtype) -> LoraModule:
        """The result's module from its factors as matrices."""
        up, down = on_cpu(up, dtype), on_cpu(down, dtype)
        self.require_finite(dtype, up, down)
        return low_rank(self.name, up, down, self.weight_shape, self.reshape)

    @property
    def reshape(self) -> tuple[int, ...] | None:
        """The shape that the model's weight is padded to first, where one of the LoRAs asks for it."""
        return reshape_of(*(contribution.adapter for contribution in self.contributions))

    def require_finite(self, dtype: torch.dtype, *tensors: Tensor) -> None:
        if not all(map(is_finite, tensors)):
            raise self.too_large_for(dtype)

    def too_large_for(self, dtype: torch.dtype) -> LoraError:
        return LoraError(
            f"Merging module {self.name} gave values too large for {str(dtype).removeprefix('torch.')}. "
            "Lower the strengths or choose float32."
        )


def group_by_weight(loras: Sequence[Lora], resolver: KeyResolver) -> list[WeightGroup]:
    """The parameters of all LoRAs, each with those that change it at a strength other than 0, in order of appearance.

    Raises LoraError, before any work is done, where one LoRA replaces what another changes, where shapes disagree, and
    for modules that need a model's weight.
    """
    contributions: dict[str, list[tuple[Contribution, Target]]] = {}
    for number, lora in enumerate(loras, 1):
        for adapter in lora.modules.values():
            strength = lora.strength_of(adapter)
            if not math.isfinite(strength):
                raise LoraError(f"{lora.name}: the strength of module {adapter.name} is {strength}; choose a number.")
            if strength == 0:
                continue
            if adapter.needs_base:
                raise LoraError(f"{lora.name}: {needs_model(adapter)}")
            meaning = resolver.target(adapter.name)
            parameter = meaning.weight if adapter.parameter == WEIGHT else f"{meaning.weight}_{adapter.parameter}"
            contributions.setdefault(parameter, []).append(
                (Contribution(adapter, strength, number, lora.name), meaning)
            )
    groups = []
    for parameter, present in contributions.items():
        for weight, same in same_rows(parameter, present, resolver.reads_as):
            for contribution in same[1:]:
                require_same_weight(same[0], contribution)
            groups.append(WeightGroup(weight, tuple(same)))
    return groups
