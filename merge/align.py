"""Which adapters of several LoRAs meet at a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .devices import on_cpu
from .finite import is_finite
from .formats.based import needs_model
from .join import low_rank, reshape_of
from .lora import WEIGHT, Lora, LoraError, LoraModule, Replacement
from .names import Target
from .reading import NameReader
from .share import Share, require_same_weight, same_rows


@dataclass(frozen=True, eq=False)
class Meeting:
    """A parameter that the merge changes and the LoRAs that change it, in input order."""

    weight: str  # canonical name
    shares: tuple[Share, ...]

    @property
    def name(self) -> str:
        """The first LoRA's spelling."""
        return self.shares[0].adapter.name

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The parameter's shape, in the convolution's form where any of the LoRAs has it."""
        return max((share.adapter.weight_shape for share in self.shares), key=len)

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
        return isinstance(self.shares[0].adapter, Replacement)

    @property
    def rank(self) -> int:
        """The largest rank among the LoRAs."""
        return min(max(share.adapter.rank for share in self.shares), self.rows, self.columns)

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
        return reshape_of(*(share.adapter for share in self.shares))

    def require_finite(self, dtype: torch.dtype, *tensors: Tensor) -> None:
        if not all(map(is_finite, tensors)):
            raise self.too_large_for(dtype)

    def too_large_for(self, dtype: torch.dtype) -> LoraError:
        return LoraError(
            f"Merging module {self.name} gave values too large for {str(dtype).removeprefix('torch.')}. "
            "Lower the strengths or choose float32."
        )


def meet(loras: Sequence[Lora], reader: NameReader) -> list[Meeting]:
    """The parameters of all LoRAs, each with those that change it at a strength other than 0, in order of appearance.

    Raises LoraError, before any work is done, where one LoRA replaces what another changes, where shapes disagree, and
    for modules that need a model's weight.
    """
    shares: dict[str, list[tuple[Share, Target]]] = {}
    for number, lora in enumerate(loras, 1):
        for adapter in lora.modules.values():
            strength = lora.strength_of(adapter)
            if not math.isfinite(strength):
                raise LoraError(f"{lora.name}: the strength of module {adapter.name} is {strength}; choose a number.")
            if strength == 0:
                continue
            if adapter.needs_base:
                raise LoraError(f"{lora.name}: {needs_model(adapter)}")
            meaning = reader.target(adapter.name)
            parameter = meaning.weight if adapter.parameter == WEIGHT else f"{meaning.weight}_{adapter.parameter}"
            shares.setdefault(parameter, []).append((Share(adapter, strength, number, lora.name), meaning))
    meetings = []
    for parameter, present in shares.items():
        for weight, same in same_rows(parameter, present, reader.reads_as):
            for share in same[1:]:
                require_same_weight(same[0], share)
            meetings.append(Meeting(weight, tuple(same)))
    return meetings
