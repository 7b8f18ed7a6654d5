"""Several adapters of one weight as one, and whether two can be of one weight at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import DAMAGED, LoraError
from ..lazy import Later, known_finite, scaled
from ..numerics.finite import require_fits
from ..numerics.stacking import stack_downs, stack_ups
from .base import Adapter, Difference, LaterLoraModule, LoraModule, LowRank, Replacement


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
    weight_shape = max(first.weight_shape, second.weight_shape, key=len)
    if first.has_factors and second.has_factors:
        terms = [(adapter, adapter.scale * adapter.block_weight) for adapter in (first, second)]
        return side_by_side(first.name, terms, weight_shape, reshape_of(first, second))
    value = first.dense() * first.block_weight + second.dense() * second.block_weight
    require_fits(value, source)
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


def side_by_side(
    name: str,
    terms: Sequence[tuple[Adapter, float]],
    weight_shape: tuple[int, ...],
    reshape: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
) -> LaterLoraModule:
    """The sum of g * up @ down over adapters that have factors, side by side as PEFT's cat: exact, the ranks add up.

    Nothing is computed before it is used. Up and down are known to be finite if they can't overflow.
    """
    adapters, gains = zip(*((as_low_rank(adapter), gain) for adapter, gain in terms), strict=True)
    rank = sum(adapter.rank for adapter in adapters)
    up_shape = (weight_shape[0], rank, *(1,) * (len(weight_shape) - 2))
    down_shape = (rank, *weight_shape[1:])

    def up() -> Tensor:
        return stack_ups([adapter.up.flatten(1) for adapter in adapters], gains, dtype).reshape(up_shape)

    def down() -> Tensor:
        return stack_downs([adapter.down.flatten(1) for adapter in adapters], gains, dtype).reshape(down_shape)

    finite = not _may_overflow(terms, dtype)
    halves = Later(dtype, up_shape, up, finite), Later(dtype, down_shape, down, finite)
    return LaterLoraModule(name, *halves, float(rank), reshape=reshape)


def marked_finite(module: LaterLoraModule) -> LaterLoraModule:
    """The same module, once its factors were found to be finite."""
    up, down = (replace(half, is_finite=True) if isinstance(half, Later) else half for half in module.halves)
    return replace(module, up_half=up, down_half=down)


def _may_overflow(terms: Sequence[tuple[Adapter, float]], dtype: torch.dtype) -> bool:
    """Whether factors can be too large for ``dtype`` side by side.

    Those of a LoRA are finite: what their own precision holds at most tells. Those of other families are products.
    """
    most = torch.finfo(dtype).max

    def fits(half: Tensor | Later, gain: float) -> bool:
        return known_finite(half) and torch.finfo(half.dtype).max * abs(gain) ** 0.5 <= most

    return not all(
        isinstance(adapter, LowRank) and all(fits(half, gain) for half in adapter.halves) for adapter, gain in terms
    )


def as_low_rank(adapter: Adapter) -> LowRank:
    """An adapter that has factors as a LoRA of them, its block weight kept. Nothing is computed before it is used."""
    if isinstance(adapter, LowRank):
        return adapter
    rank, shape = adapter.rank, adapter.weight_shape
    up_shape, down_shape = (shape[0], rank, *(1,) * (len(shape) - 2)), (rank, *shape[1:])

    def factor(number: int) -> Tensor:
        factors = adapter.factors()
        assert factors is not None, adapter.name
        return factors[number].float()

    halves = (
        Later(torch.float32, up_shape, lambda: factor(0).reshape(up_shape)),
        Later(torch.float32, down_shape, lambda: factor(1).reshape(down_shape)),
    )
    return LaterLoraModule(adapter.name, *halves, adapter.scale * rank, adapter.block_weight)


def unscaled(whole: LowRank) -> LowRank:
    """The same change with alpha equal to the rank: the scale and the block weight are in the up factor."""
    up, down = whole.halves
    return LaterLoraModule(whole.name, scaled(up, whole.scale * whole.block_weight), down, float(whole.rank))


def reshape_of(*adapters: Adapter) -> tuple[int, ...] | None:
    """The shape that the first of them that has one pads the weight to."""
    return next((r for r in (getattr(adapter, "reshape", None) for adapter in adapters) if r is not None), None)


def same_weight(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes can be of one weight: equal, or the one is the other as a matrix (1x1 kernels)."""
    if len(a) == len(b):
        return a == b
    return len(a) > 1 and len(b) > 1 and a[0] == b[0] and math.prod(a[1:]) == math.prod(b[1:])


def shape_text(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
