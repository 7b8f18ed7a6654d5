"""Buffers that avoid heap fragmentation when merging many modules."""

from __future__ import annotations

import torch
from torch import Tensor


def floats(count: int) -> Tensor:
    """An uninitialised float32 vector on the CPU."""
    return torch.empty(count, dtype=torch.float32, device="cpu")


class ReusableBuffer:
    """One vector on the CPU, lent for one module after the other and allocated at first use.

    Large tensors allocated and freed between small ones that stay leave holes in the heap. Over the thousand modules of
    a model the holes take more memory than the largest delta.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._memory: Tensor | None = None

    def floats(self, count: int) -> Tensor:
        """A float32 vector of ``count`` elements, at most ``most``; overwrites the one lent before."""
        memory = self._memory
        if memory is None:
            memory = self._memory = floats(self._most)
        return memory[:count]


# Bytes of a chunk at most. Each chunk is twice as large as the one before.
LARGEST_CHUNK = 32 * 2**20
# Tensors start at a multiple of this many bytes, as torch's own do.
ALIGNMENT = 64


class Arena:
    """Packs tensors that stay into a few large chunks of memory; a chunk is freed with the last tensor in it."""

    def __init__(self) -> None:
        self._chunk = torch.empty(0, dtype=torch.float64, device="cpu")
        self._used = 0  # elements of the chunk

    def copy(self, tensor: Tensor) -> Tensor:
        """A contiguous copy on the CPU."""
        size = -(-tensor.nbytes // ALIGNMENT) * (ALIGNMENT // 8)
        if self._used + size > len(self._chunk):
            chunk_size = max(size, min(2 * len(self._chunk), LARGEST_CHUNK // 8))
            self._chunk, self._used = torch.empty(chunk_size, dtype=torch.float64, device="cpu"), 0
        slot = self._chunk[self._used : self._used + size].view(tensor.dtype)
        self._used += size
        return slot[: tensor.numel()].view(tensor.shape).copy_(tensor)
