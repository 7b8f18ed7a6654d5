"""A matrix that is computed in blocks of rows, and masks on its blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..compute.context import CancelCheck, no_cancel
from ..numerics.buffers import floats

# Returns the rows start to stop of a matrix.
Rows = Callable[[int, int], Tensor]


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of a matrix."""

    values: Tensor
    first_row: int = 0

    @property
    def start(self) -> int:
        """The position of its first element in the matrix, counted in row order."""
        return self.first_row * math.prod(self.values.shape[1:])


# Returns a block's values with the dropped ones set to 0.
Mask = Callable[[Block], Tensor]


@dataclass(frozen=True, eq=False)
class BlockedMatrix:
    """A float32 matrix whose blocks of rows are computed anew in every pass, so that it is never in memory as a whole.

    ``bounds`` are the rows (start, stop) of the blocks. They are the same in every pass, because the shape of a matrix
    product can change its last bit, and with it which elements reach a pruning threshold. ``check`` is called before
    each block. ``scratch`` lends an uninitialised float32 vector on the CPU and may overwrite the one lent before.
    """

    rows: Rows
    shape: tuple[int, ...]
    bounds: Sequence[tuple[int, int]]
    device: torch.device
    check: CancelCheck = no_cancel
    scratch: Callable[[int], Tensor] = floats

    @property
    def count(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    def blocks(self) -> Iterator[Block]:
        """One pass over the matrix."""
        for start, stop in self.bounds:
            self.check()
            yield Block(self.rows(start, stop), start)


def in_blocks(matrix: Tensor, block_rows: int | None = None) -> BlockedMatrix:
    """A matrix or vector in memory, split into blocks of this many rows; a single block by default."""
    count = len(matrix)
    step = block_rows or max(1, count)
    bounds = [(start, min(count, start + step)) for start in range(0, count, step)]
    return BlockedMatrix(lambda start, stop: matrix[start:stop], tuple(matrix.shape), bounds, matrix.device)
