"""Memory that the modules of a merge are worked in, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Lends the same memory on the CPU again and again; none is taken before it is asked for.

    Large tensors that come and go between small ones that stay leave holes in the heap, which over the thousand modules
    of a model come to more than its largest delta.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._memory: Tensor | None = None

    def floats(self, count: int) -> Tensor:
        """``count`` float32 numbers, uninitialised, at most ``most``; what was lent before is overwritten."""
        if self._memory is None:
            self._memory = torch.empty(self._most)
        return self._memory[:count]
