"""Several adapters of one weight as one, and whether two can be of one weight at all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import lowrank
from .lora import DAMAGED, Adapter, Difference, LoraError, LoraModule, Replacement


def join(first: Adapter, second: Adapter, source: str) -> Adapter:
    """The sum of two adapters of one parameter of one LoRA, exact: factors side by side, or dense deltas added.

    Keeps the first's name. Raises LoraError, naming ``source``, where they can't be added.
    """
    if not same_weight(first.weight_shape, second.weight_shape):
        shapes = f"{shape_text(first.weight_shape)} and {shape_text(second.weight_shape)}"
        raise LoraError(f"{source} is adapted twice, for weights of the shapes {shapes}. {DAMAGED}")
    for adapter in (first, second):
        if adapter.needs_base or isinstance(adapter, Replacement):
            families = f"{first.family} and {second.family}"
            raise LoraError(
                f"{source} is changed twice, by {families}, which can't be made into one. Leave this file out."
            )
    terms = []
    for adapter in (first, second):
        factors = adapter.factors()
        if factors is not None:
            terms.append((*factors, adapter.scale * adapter.block_weight))
    weight_shape = max(first.weight_shape, second.weight_shape, key=len)
    if len(terms) == 2:
        reshape = next((r for r in (getattr(a, "reshape", None) for a in (first, second)) if r is not None), None)
        return low_rank(first.name, *lowrank.stack(terms, torch.float32), weight_shape, reshape)
    value = first.dense() * first.block_weight + second.dense() * second.block_weight
    return Difference(first.name, value.reshape(weight_shape), first.parameter)


def low_rank(
    name: str, up: Tensor, down: Tensor, weight_shape: tuple[int, ...], reshape: tuple[int, ...] | None = None
) -> LoraModule:
    """A LoRA module from its factors as matrices, counting as they are: alpha is the rank."""
    rank = up.shape[1]
    return LoraModule(
        name,
        up.reshape(up.shape[0], rank, *(1,) * (len(weight_shape) - 2)).contiguous(),
        down.reshape(rank, *weight_shape[1:]).contiguous(),
        float(rank),
        reshape=reshape,
    )


def same_weight(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes can be of one weight: equal, or the one is the other as a matrix (1x1 kernels)."""
    if len(a) == len(b):
        return a == b
    return len(a) > 1 and len(b) > 1 and a[0] == b[0] and math.prod(a[1:]) == math.prod(b[1:])


def shape_text(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
