"""A sum of low-rank products as one product of stacked factors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# torch runs operations of up to this many elements in the calling thread. Its other threads would wait for the next one
# by spinning, on the core that hashes the file at the same time: with two cores a save of a merge takes twice the CPU.
SERIAL_ELEMENTS = 2**15 - 1

# Factors up (m, r) and down (r, n), and the weight of their product in a sum.
Term = tuple[Tensor, Tensor, float]


def stack(terms: Sequence[Term], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The sum of weight * up @ down over terms (up (m, r), down (r, n), weight) as one product (m, R) @ (R, n); exact.

    Each factor carries sqrt|weight|, and the down the sign (PEFT's split in add_weighted_adapter).
    """
    ups, downs, weights = zip(*terms, strict=True)
    return stack_ups(ups, weights, dtype), stack_downs(downs, weights, dtype)


def stack_ups(ups: Sequence[Tensor], weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    """The up factor (m, R) of ``stack``."""
    stacked, slots = _empty_stack(ups, 1, dtype)
    for slot, up, weight in zip(slots, ups, weights, strict=True):
        _scale_into(slot, up, abs(weight) ** 0.5)
    return stacked


def stack_downs(downs: Sequence[Tensor], weights: Sequence[float], dtype: torch.dtype) -> Tensor:
    """The down factor (R, n) of ``stack``."""
    stacked, slots = _empty_stack(downs, 0, dtype)
    for slot, down, weight in zip(slots, downs, weights, strict=True):
        # as one column, since a row may be longer than SERIAL_ELEMENTS
        _scale_into(slot.view(-1, 1), down.reshape(-1, 1), math.copysign(abs(weight) ** 0.5, weight))
    return stacked


def concatenate(parts: Sequence[Tensor], dim: int, dtype: torch.dtype) -> Tensor:
    """torch.cat in another precision, without a converted copy of each part."""
    stacked, slots = _empty_stack(parts, dim, dtype)
    for slot, part in zip(slots, parts, strict=True):
        slot.copy_(part)
    return stacked


def _scale_into(slot: Tensor, part: Tensor, factor: float) -> None:
    """Write ``part`` (m, r) times a factor into ``slot``, computed in float32 or better and rounded once."""
    precision = torch.promote_types(slot.dtype, torch.float32)
    step = max(1, (SERIAL_ELEMENTS if part.device.type == "cpu" else part.numel()) // part.shape[1])
    for start in range(0, part.shape[0], step):
        source, target = part[start : start + step], slot[start : start + step]
        if precision == slot.dtype:
            target.copy_(source).mul_(factor)
        else:
            torch.mul(source.to(precision), factor, out=target)


def _empty_stack(parts: Sequence[Tensor], dim: int, dtype: torch.dtype) -> tuple[Tensor, Sequence[Tensor]]:
    """An uninitialised matrix for the parts side by side, and the slot of each in it."""
    ranks = [part.shape[dim] for part in parts]
    shape = list(parts[0].shape)
    shape[dim] = sum(ranks)
    stacked = torch.empty(shape, dtype=dtype, device=parts[0].device)
    return stacked, stacked.split(ranks, dim)
