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

    ``dtype`` and ``shape`` are known without reading. ``is_finite`` is true if the values need no check when they are
    written: they were checked, or can't overflow. ``wide``, if set, computes the same tensor in float32, for files of a
    wider precision. ``read_rows(start, stop)``, if set, reads a part along the first dimension without the rest.
    ``held`` is the tensor itself if it is in memory.
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

    def scaled(self, factor: float) -> LazyTensor:
        """The tensor times ``factor`` in its own precision, computed in float32; itself at factor 1."""
        if factor == 1:
            return self

        def wide() -> Tensor:
            return self.materialize().float() * factor

        def materialize() -> Tensor:
            tensor = wide()
            # newer versions of torch clip to float8's range, which would hide the overflow
            if self.dtype.itemsize == 1:
                tensor.masked_fill_(tensor.abs() > torch.finfo(self.dtype).max, math.nan)
            return tensor.to(self.dtype)

        cannot_overflow = abs(factor) <= 1 and self.dtype != torch.float64  # float32 can't hold all float64 values
        return LazyTensor(self.dtype, self.shape, materialize, cannot_overflow and self.is_finite, wide)
