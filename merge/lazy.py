"""Tensors that are read or computed on demand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """A tensor that ``materialize()`` reads or computes. Nothing is cached, so a save holds one tensor at a time.

    ``dtype`` and ``shape`` are known without that. ``is_finite``: the values were checked or can't overflow; all others
    are checked when they are written. ``wide`` computes the tensor in float32 if it can overflow ``dtype``, for files
    in a wider precision. ``read_rows(start, stop)`` reads a part along the first dimension without the rest. ``held``
    is the tensor itself if it is in memory.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    materialize: Callable[[], Tensor]
    is_finite: bool = False
    wide: Callable[[], Tensor] | None = None
    read_rows: Callable[[int, int], Tensor] | None = None
    held: Tensor | None = None

    @staticmethod
    def of(tensor: Tensor) -> LazyTensor:
        """A tensor in memory, whose values were checked when it was read or computed."""
        return LazyTensor(tensor.dtype, tuple(tensor.shape), lambda: tensor, is_finite=True, held=tensor)

    def rows(self, start: int, stop: int) -> Tensor:
        """The part from index ``start`` to ``stop`` of the first dimension."""
        if self.read_rows is not None:
            return self.read_rows(start, stop)
        return self.materialize()[start:stop]

    def reshaped(self, shape: tuple[int, ...]) -> LazyTensor:
        """The same elements in another shape."""
        assert math.prod(shape) == math.prod(self.shape)
        if shape == self.shape:
            return self
        if self.held is not None:
            return LazyTensor.of(self.held.reshape(shape))

        def materialize() -> Tensor:
            return self.materialize().reshape(shape)

        return replace(self, shape=shape, materialize=materialize, wide=None, read_rows=None)

    def scaled(self, weight: float) -> LazyTensor:
        """The tensor times ``weight`` in its own precision, computed in float32; itself at weight 1."""
        if weight == 1:
            return self

        def wide() -> Tensor:
            return self.materialize().float() * weight

        def materialize() -> Tensor:
            tensor = wide()
            if self.dtype.itemsize == 1:  # float8: newer versions of torch clip what is too large for it
                tensor.masked_fill_(tensor.abs() > torch.finfo(self.dtype).max, math.nan)
            return tensor.to(self.dtype)

        cannot_overflow = abs(weight) <= 1 and self.dtype != torch.float64  # float32 can't hold all float64 values
        return LazyTensor(self.dtype, self.shape, materialize, cannot_overflow and self.is_finite, wide)
