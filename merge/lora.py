"""The data model: one adapted weight (LoraModule) and a set of them (Lora). Both are immutable values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from .keys import is_text_encoder


class LoraError(ValueError):
    """What is wrong with a file, a LoRA or a setting, worded for the user, who sees it as it is."""


@dataclass(frozen=True, eq=False)
class LoraModule:
    """The low-rank adapter of one weight; its delta is ``alpha / rank * up @ down``.

    ``up`` has the shape (out, rank) and ``down`` (rank, in), each with the kernel's dimensions behind for a
    convolution: up (out, rank, 1, 1), down (rank, in, kh, kw). Both are floating point, of any precision.
    ``alpha`` is finite and may be zero or negative. ``block_weight`` multiplies the LoRA's strength for this module.
    """

    name: str
    up: Tensor
    down: Tensor
    alpha: float
    block_weight: float = 1.0

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """The factor between ``up @ down`` and the delta, block weight not counted."""
        return self.alpha / self.rank

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight that the delta is added to: (out, in[, kh, kw])."""
        return (self.up.shape[0], *self.down.shape[1:])

    @property
    def is_convolution(self) -> bool:
        """Whether the kernel is larger than 1x1: a 1x1 convolution is a linear map and counts as one."""
        return math.prod(self.down.shape[2:]) > 1

    def flat_up(self) -> Tensor:
        """``up`` as a matrix (out, rank)."""
        return self.up.reshape(self.up.shape[0], -1)

    def flat_down(self) -> Tensor:
        """``down`` as a matrix (rank, in * kh * kw)."""
        return self.down.reshape(self.down.shape[0], -1)


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA: its modules by name, in file order, and the strengths it is to be merged or applied with.

    Nodes share these values through ComfyUI's cache, so nothing may write into one, its mappings or its tensors:
    every operation returns a new Lora.
    """

    name: str
    modules: Mapping[str, LoraModule]
    strength_model: float = 1.0
    strength_clip: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", MappingProxyType(dict(self.modules)))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    def strength_of(self, module: LoraModule) -> float:
        """What ``module`` counts: the strength of its part of the model times its block weight."""
        part = self.strength_clip if is_text_encoder(module.name) else self.strength_model
        return part * module.block_weight

    def with_strengths(self, strength_model: float, strength_clip: float) -> Lora:
        """This LoRA with its strengths multiplied by these."""
        return replace(
            self,
            strength_model=self.strength_model * strength_model,
            strength_clip=self.strength_clip * strength_clip,
        )

    def baked(self) -> Lora:
        """The same LoRA with its strengths as block weights, at strength 1; what counts nothing is left out."""
        modules = [replace(m, block_weight=self.strength_of(m)) for m in self.modules.values()]
        return replace(
            self,
            modules=modules_by_name(m for m in modules if m.block_weight != 0),
            strength_model=1.0,
            strength_clip=1.0,
        )


def modules_by_name(modules: Iterable[LoraModule]) -> dict[str, LoraModule]:
    return {module.name: module for module in modules}


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise LoraError naming ``what`` when the tensor holds NaN or Inf."""
    if tensor.is_floating_point() and not torch.isfinite(_comparable(tensor)).all():
        raise LoraError(f"{what} holds NaN or infinite values. The file is damaged or its training diverged.")


def _comparable(tensor: Tensor) -> Tensor:
    # torch has few operations for 8-bit floats
    return tensor.float() if tensor.element_size() == 1 else tensor
