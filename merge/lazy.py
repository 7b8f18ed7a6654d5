"""Tensors that are read or computed when they are used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Later:
    """A tensor that is made each time it is asked for: what is written holds one of them at a time.

    ``is_finite``: its numbers were checked, or can't overflow. Others are checked when they are written.
    ``wide`` makes it in float32, if it can overflow ``dtype`` alone: for files in a wider precision.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]
    is_finite: bool = False
    wide: Callable[[], Tensor] | None = None


def made(value: Tensor | Later) -> Tensor:
    return value if isinstance(value, Tensor) else value.make()


def known_finite(value: Tensor | Later) -> bool:
    """Whether the numbers need no further check. Those in memory were checked when they were read or computed."""
    return isinstance(value, Tensor) or value.is_finite


def scaled(value: Tensor | Later, weight: float) -> Tensor | Later:
    """A tensor times a weight in its own precision, computed in float32 when it is asked for; itself at weight 1."""
    if weight == 1:
        return value

    def wide() -> Tensor:
        return made(value).float() * weight

    def make() -> Tensor:
        tensor = wide()
        if value.dtype.itemsize == 1:  # float8: newer versions of torch clip what is too large for it
            tensor.masked_fill_(tensor.abs() > torch.finfo(value.dtype).max, math.nan)
        return tensor.to(value.dtype)

    cannot_overflow = abs(weight) <= 1 and value.dtype != torch.float64  # float32 can't hold all float64 numbers
    finite = cannot_overflow and known_finite(value)
    return Later(value.dtype, tuple(value.shape), make, finite, wide)
