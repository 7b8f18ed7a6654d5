"""Combining several adapters of one weight, and checking that they can be of one weight at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import DAMAGED, LoraError
from ..lazy import LazyTensor
from ..numerics.finite import require_fits
from ..numerics.stacking import stack_downs, stack_ups
from .base import Adapter, Difference, LoraModule, Replacement


def join(first: Adapter, second: Adapter, source: str) -> Adapter:
    """The exact sum of two adapters of one parameter: factors concatenated, or dense deltas added.

    The result has the first adapter's name. Raises LoraError, naming ``source``, if they can't be added.
    """
    if not same_weight(first.weight_shape, second.weight_shape):
        shapes = f"{shape_text(first.weight_shape)} and {shape_text(second.weight_shape)}"
        raise LoraError(f"{source} is adapted twice, for weights of different shapes, {shapes}. {DAMAGED}")
    for adapter in (first, second):
        if adapter.needs_base or isinstance(adapter, Replacement):
            families = f"{first.family} and {second.family}"
            raise LoraError(f"{source} is changed twice, by {families}, which can't be combined. Leave this file out.")
    weight_shape = max(first.weight_shape, second.weight_shape, key=len)
    if first.has_factors and second.has_factors:
        terms = [(adapter, adapter.scale * adapter.block_weight) for adapter in (first, second)]
        return side_by_side(first.name, terms, weight_shape, reshape_of(first, second))
    value = first.dense() * first.block_weight + second.dense() * second.block_weight
    require_fits(value, source)
    return Difference.of(first.name, value.reshape(weight_shape), first.parameter)


def low_rank(
    name: str, up: Tensor, down: Tensor, weight_shape: tuple[int, ...], reshape: tuple[int, ...] | None = None
) -> LoraModule:
    """The LoRA module of the factors up (out, r) and down (r, in * kh * kw) at scale 1: alpha is the rank."""
    rank = up.shape[1]
    return LoraModule.of(
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
) -> LoraModule:
    """The sum of weight * up @ down over adapters with factors, concatenated as PEFT's cat does: exact, ranks add up.

    Nothing is computed before it is used. Up and down count as finite if they can't overflow ``dtype``.
    """
    modules, weights = zip(*((as_low_rank(adapter), weight) for adapter, weight in terms), strict=True)
    rank = sum(module.rank for module in modules)
    up_shape = (weight_shape[0], rank, *(1,) * (len(weight_shape) - 2))
    down_shape = (rank, *weight_shape[1:])

    def up() -> Tensor:
        ups = [module.up.materialize().flatten(1) for module in modules]
        return stack_ups(ups, weights, dtype).reshape(up_shape)

    def down() -> Tensor:
        downs = [module.down.materialize().flatten(1) for module in modules]
        return stack_downs(downs, weights, dtype).reshape(down_shape)

    finite = not _may_overflow(terms, dtype)
    factors = LazyTensor(dtype, up_shape, up, finite), LazyTensor(dtype, down_shape, down, finite)
    return LoraModule(name, *factors, float(rank), reshape=reshape)


def marked_finite(module: LoraModule) -> LoraModule:
    """The same module, with its factors marked as checked."""
    return replace(module, up=replace(module.up, is_finite=True), down=replace(module.down, is_finite=True))


def _may_overflow(terms: Sequence[tuple[Adapter, float]], dtype: torch.dtype) -> bool:
    """Whether the concatenated factors can be too large for ``dtype``.

    A LoRA's factors are finite, so the largest value of their own dtype bounds them. Those of other families are
    products, which nothing bounds.
    """
    largest = torch.finfo(dtype).max

    def fits(factor: LazyTensor, weight: float) -> bool:
        return factor.is_finite and torch.finfo(factor.dtype).max * abs(weight) ** 0.5 <= largest

    return not all(
        isinstance(adapter, LoraModule) and fits(adapter.up, weight) and fits(adapter.down, weight)
        for adapter, weight in terms
    )


def as_low_rank(adapter: Adapter) -> LoraModule:
    """An adapter that has factors as a LoRA module of them, computed when used; the block weight is kept."""
    if isinstance(adapter, LoraModule):
        return adapter
    rank, shape = adapter.rank, adapter.weight_shape
    up_shape, down_shape = (shape[0], rank, *(1,) * (len(shape) - 2)), (rank, *shape[1:])

    def factor(number: int) -> Tensor:
        factors = adapter.factors()
        assert factors is not None, adapter.name
        return factors[number].float()

    up = LazyTensor(torch.float32, up_shape, lambda: factor(0).reshape(up_shape))
    down = LazyTensor(torch.float32, down_shape, lambda: factor(1).reshape(down_shape))
    return LoraModule(adapter.name, up, down, adapter.scale * rank, adapter.block_weight)


def unscaled(module: LoraModule) -> LoraModule:
    """The same change with alpha equal to the rank: scale and block weight are multiplied into up."""
    up = module.up.scaled(module.scale * module.block_weight)
    return LoraModule(module.name, up, module.down, float(module.rank))


def reshape_of(*adapters: Adapter) -> tuple[int, ...] | None:
    """The first adapter's shape to pad the weight to, if any has one."""
    return next((r for r in (getattr(adapter, "reshape", None) for adapter in adapters) if r is not None), None)


def same_weight(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes fit one weight: equal, or one is the other as a matrix (1x1 kernels)."""
    if len(a) == len(b):
        return a == b
    return len(a) > 1 and len(b) > 1 and a[0] == b[0] and math.prod(a[1:]) == math.prod(b[1:])


def shape_text(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
