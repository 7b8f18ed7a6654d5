"""How far a result is from the truth: the same rule in float64 on dense matrices, and the best cut there is of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .inputs import Module
from .works import Work

# (values, number of the LoRA, "up", "down" or "delta") -> what they are multiplied with, values of the same shape.
Masks = Callable[[Tensor, int, str], Tensor]
# Where the best cut loses less than this share, the loss is rounding and no ratio is made of it.
NOTHING = 1e-6
# Up to this size LAPACK gives the singular values themselves, above it the Gram matrix.
SMALL = 512


@dataclass(frozen=True)
class Error:
    """``ratio``: the error over the least possible one. ``relative``: over the norm of the truth."""

    kind: Literal["ratio", "relative"]
    value: float


def truth(work: Work, module: Module, masks: Masks) -> Tensor:
    """The delta before any cut, in float64. Masks are asked for in PEFT's order: all downs, then all ups."""
    terms = module.terms
    if work.kind == "factors":
        roots = [math.sqrt(abs(term.gain)) for term in terms]
        signed = [math.copysign(root, term.gain) for root, term in zip(roots, terms, strict=True)]
        down = _merged(work.mode, [(t.down, t.number) for t in terms], signed, "down", masks)
        up = _merged(work.mode, [(t.up, t.number) for t in terms], roots, "up", masks)
        return up @ down
    deltas = [((t.up.double() @ t.down.double()) * t.scale, t.number) for t in terms]
    strengths = [term.strength for term in terms]
    return _merged("add" if work.kind in ("concat", "resize") else work.mode, deltas, strengths, "delta", masks)


def _merged(
    mode: str, values: Sequence[tuple[Tensor, int]], weights: Sequence[float], side: str, masks: Masks
) -> Tensor:
    kept = [
        value.double() if mode == "add" else value.double() * masks(value.float(), number, side).double()
        for value, number in values
    ]
    if mode != "ties":
        return sum((weight * value for weight, value in zip(weights, kept, strict=True)), torch.zeros(()))
    sign = torch.where(sum(kept, torch.zeros(())) >= 0, 1.0, -1.0)
    total, count = torch.zeros_like(kept[0]), torch.zeros_like(kept[0])
    for weight, value in zip(weights, kept, strict=True):
        agrees = value.sign() == sign
        total += weight * value * agrees
        count += agrees
    return total / count.clamp(min=1)


def least_error(delta: Tensor, rank: int) -> float:
    """The Frobenius norm of what no matrix of the rank can hold (Eckart-Young)."""
    if min(delta.shape) <= SMALL:
        return float(torch.linalg.vector_norm(torch.linalg.svdvals(delta)[rank:]))
    wide = delta if delta.shape[0] <= delta.shape[1] else delta.mT
    squares = torch.linalg.eigvalsh(wide @ wide.mT)
    return math.sqrt(max(0.0, float(squares[: len(squares) - rank].clamp(min=0).sum())))


def error(work: Work, up: Tensor, down: Tensor, delta: Tensor, least: float) -> Error:
    """``least`` is least_error() of the delta, and counts only where the work cuts."""
    found = float(torch.linalg.vector_norm(delta - up.double() @ down.double()))
    norm = float(torch.linalg.vector_norm(delta))
    if work.is_cut and least > NOTHING * norm:
        return Error("ratio", found / least)
    return Error("relative", found / norm if norm else found)
