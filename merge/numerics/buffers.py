"""Memory for a merge of many modules that leaves no holes in the heap: for what comes and goes, and for what stays."""

from __future__ import annotations

import torch
from torch import Tensor


def floats(count: int) -> Tensor:
    """``count`` float32 numbers on the CPU, uninitialised."""
    return torch.empty(count, dtype=torch.float32, device="cpu")


class ReusableBuffer:
    """Lends the same memory on the CPU again and again; none is taken before it is asked for.

    Large tensors that come and go between small ones that stay leave holes, which over the thousand modules of a model
    come to more than its largest delta.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._memory: Tensor | None = None

    def floats(self, count: int) -> Tensor:
        """``count`` float32 numbers, uninitialised, at most ``most``; what was lent before is overwritten."""
        if self._memory is None:
            self._memory = floats(self._most)
        return self._memory[:count]


# Bytes of a piece at most: each has twice the size of the one before.
LARGEST_PIECE = 32 * 2**20
# Bytes that tensors start at a multiple of, as torch's own do.
ALIGNMENT = 64


class Arena:
    """Puts tensors that stay side by side into a few large pieces of memory.

    A piece lives as long as any tensor in it.
    """

    def __init__(self) -> None:
        self._piece = torch.empty(0, dtype=torch.float64, device="cpu")
        self._used = 0  # numbers of the piece

    def copy(self, tensor: Tensor) -> Tensor:
        """A contiguous copy on the CPU."""
        size = -(-tensor.nbytes // ALIGNMENT) * (ALIGNMENT // 8)
        if self._used + size > len(self._piece):
            most = max(size, min(2 * len(self._piece), LARGEST_PIECE // 8))
            self._piece, self._used = torch.empty(most, dtype=torch.float64, device="cpu"), 0
        room = self._piece[self._used : self._used + size].view(tensor.dtype)
        self._used += size
        return room[: tensor.numel()].view(tensor.shape).copy_(tensor)
