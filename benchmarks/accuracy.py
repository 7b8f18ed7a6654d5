"""Accuracy of a result, against the same merge in float64 on dense matrices and its best truncation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .inputs import Module
from .works import Work

# (values, input index of the LoRA, "up", "down" or "delta") -> mask of the same shape to multiply the values by.
Masks = Callable[[Tensor, int, str], Tensor]
# If the best truncation loses less than this share, the loss is rounding and a ratio would be meaningless.
NOTHING = 1e-6
# Up to this size singular values come from an SVD, above it from the Gram matrix.
SMALL = 512


@dataclass(frozen=True)
class Error:
    """``ratio``: error / least possible error. ``relative``: error / norm of the exact delta."""

    kind: Literal["ratio", "relative"]
    value: float


def exact_delta(work: Work, module: Module, masks: Masks) -> Tensor:
    """The exact delta before truncation, in float64. Masks are requested in PEFT's order: all downs, then all ups."""
    terms = module.terms
    if work.kind == "factors":
        roots = [math.sqrt(abs(term.effective_weight)) for term in terms]
        signed = [math.copysign(root, term.effective_weight) for root, term in zip(roots, terms, strict=True)]
        down = _merged(work.mode, [(t.down, t.input_index) for t in terms], signed, "down", masks)
        up = _merged(work.mode, [(t.up, t.input_index) for t in terms], roots, "up", masks)
        return up @ down
    deltas = [((t.up.double() @ t.down.double()) * t.scale, t.input_index) for t in terms]
    strengths = [term.strength for term in terms]
    return _merged("add" if work.kind in ("concat", "resize") else work.mode, deltas, strengths, "delta", masks)


def _merged(
    mode: str, values: Sequence[tuple[Tensor, int]], weights: Sequence[float], side: str, masks: Masks
) -> Tensor:
    kept = [
        value.double() if mode == "add" else value.double() * masks(value.float(), input_index, side).double()
        for value, input_index in values
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
    """Frobenius norm of the best possible error at this rank (Eckart-Young)."""
    if min(delta.shape) <= SMALL:
        return float(torch.linalg.vector_norm(torch.linalg.svdvals(delta)[rank:]))
    wide = delta if delta.shape[0] <= delta.shape[1] else delta.mT
    squares = torch.linalg.eigvalsh(wide @ wide.mT)
    return math.sqrt(max(0.0, float(squares[: len(squares) - rank].clamp(min=0).sum())))


def error(work: Work, up: Tensor, down: Tensor, delta: Tensor, least: float) -> Error:
    """The error of a result. ``least`` is the delta's least_error(), used only if the work truncates."""
    found = float(torch.linalg.vector_norm(delta - up.double() @ down.double()))
    norm = float(torch.linalg.vector_norm(delta))
    if work.truncates and least > NOTHING * norm:
        return Error("ratio", found / least)
    return Error("relative", found / norm if norm else found)
