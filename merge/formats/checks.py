"""Checks that every family makes on its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from ..errors import DAMAGED, INCOMPLETE, LoraError
from ..lazy import LazyTensor

ALPHA = ".alpha"


def read_alpha(tensors: Mapping[str, Tensor], rank: int, source: str) -> float:
    """A module's alpha; without one it is the rank, so that the scale is 1.

    Raises LoraError unless it is a single finite number. Zero and negative alphas are valid.
    """
    alpha = tensors.get(ALPHA)
    if alpha is None:
        return float(rank)
    if alpha.numel() != 1 or alpha.is_complex():
        raise LoraError(f"{source}: its alpha has {alpha.numel()} numbers instead of one. {DAMAGED}")
    value = float(alpha.item())
    if not math.isfinite(value):
        raise LoraError(f"{source}: its alpha is {value}. {DAMAGED}")
    return value


def require_float(tensor: Tensor | LazyTensor | None, what: str) -> None:
    if tensor is not None and not tensor.dtype.is_floating_point:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise LoraError(
            f"{what} is stored as {kind}; quantised LoRAs can't be merged. "
            "Choose a copy in float16, bfloat16 or float32."
        )


def require_matrices(tensors: Mapping[str, Tensor], suffixes: tuple[str, ...], source: str) -> None:
    """Raise LoraError if one of these factors is missing, not floating point, not a matrix, or empty."""
    for suffix in suffixes:
        if suffix not in tensors:
            raise LoraError(f"{source} lacks {suffix.lstrip('.')}. {INCOMPLETE}")
        require_float(tensors[suffix], f"{source}: its {suffix.lstrip('.')}")
        if tensors[suffix].ndim != 2 or 0 in tensors[suffix].shape:
            shape = shape_text(tensors[suffix])
            raise LoraError(f"{source}: its {suffix.lstrip('.')} {shape} is not a matrix with a rank. {DAMAGED}")


def shape_text(tensor: Tensor | LazyTensor) -> str:
    return "x".join(map(str, tensor.shape)) or "(a single number)"
