"""Which adapters of several LoRAs meet at a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import keys
from .formats.based import needs_model
from .join import low_rank, same_weight, shape_text
from .lora import Adapter, Lora, LoraError, LoraModule, Replacement


@dataclass(frozen=True, eq=False)
class Share:
    """One LoRA's part in a weight of the merge: the adapter, its strength, and the LoRA's number among the inputs."""

    adapter: Adapter
    strength: float
    number: int
    lora: str

    @property
    def gain(self) -> float:
        """What the product of the factors is multiplied by in the end: strength times alpha / rank."""
        return self.strength * self.adapter.scale


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
        up, down = up.to("cpu", dtype), down.to("cpu", dtype)
        self.require_finite(dtype, up, down)
        reshape = next((r for r in (getattr(s.adapter, "reshape", None) for s in self.shares) if r is not None), None)
        return low_rank(self.name, up, down, self.weight_shape, reshape)

    def require_finite(self, dtype: torch.dtype, *tensors: Tensor) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in tensors):
            raise LoraError(
                f"Merging module {self.name} gave values too large for {str(dtype).removeprefix('torch.')}. "
                "Lower the strengths or choose float32."
            )


def meet(loras: Sequence[Lora]) -> list[Meeting]:
    """The parameters of all LoRAs, each with those that change it at a strength other than 0, in order of appearance.

    Raises LoraError, before any work is done, where two LoRAs take one weight for different shapes, where one replaces
    what another changes, and for modules that need a model's weight.
    """
    shares: dict[str, list[Share]] = {}
    for number, lora in enumerate(loras, 1):
        for adapter in lora.modules.values():
            strength = lora.strength_of(adapter)
            if not math.isfinite(strength):
                raise LoraError(f"{lora.name}: the strength of module {adapter.name} is {strength}; choose a number.")
            if strength == 0:
                continue
            if adapter.needs_base:
                raise LoraError(f"{lora.name}: {needs_model(adapter)}")
            share = Share(adapter, strength, number, lora.name)
            present = shares.setdefault(parameter_name(adapter), [])
            if present:
                _require_same_weight(present[0], share)
            present.append(share)
    return [Meeting(weight, tuple(present)) for weight, present in shares.items()]


def parameter_name(adapter: Adapter) -> str:
    """The canonical name of what an adapter changes, the same for all spellings."""
    name = keys.canonical(adapter.name)
    return name if adapter.parameter == "weight" else f"{name}_{adapter.parameter}"


def _require_same_weight(first: Share, second: Share) -> None:
    a, b = first.adapter, second.adapter
    if not same_weight(a.weight_shape, b.weight_shape):
        raise LoraError(
            f"{first.lora} and {second.lora} are not for the same model: module {a.name} adapts a weight of shape "
            f"{shape_text(a.weight_shape)} in {first.lora} and {shape_text(b.weight_shape)} in {second.lora}."
        )
    if isinstance(a, Replacement) != isinstance(b, Replacement) or (
        isinstance(a, Replacement) and isinstance(b, Replacement) and not torch.equal(a.value, b.value)
    ):
        raise LoraError(
            f"{first.lora} and {second.lora} can't be merged: one replaces module {a.name} as a whole (set_weight) and "
            "the other changes or replaces it differently. Leave one of them out."
        )
