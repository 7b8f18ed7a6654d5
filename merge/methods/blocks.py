"""A matrix in blocks of rows, masks on them, and the random numbers of a mask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..numerics.buffers import floats


@dataclass(frozen=True, eq=False)
class Blocks:
    """A float32 matrix of ``count`` elements in consecutive blocks of rows, which may be asked for more than once.

    ``memory`` gives an uninitialised vector on the CPU, where the magnitudes can stand.
    """

    count: int
    each: Callable[[], Iterator[Tensor]]
    memory: Callable[[int], Tensor] = floats


# Takes a block and the number of elements before it, returns the block with what was sparsified away set to 0.
Mask = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class MaskStream:
    """What a random mask depends on, and all it depends on."""

    seed: int
    weight: str  # the weight's canonical name
    input_index: int  # of the LoRA among the inputs, from 1
    side: str  # "up", "down" or "delta"

    def integers(self, start: int, count: int) -> np.ndarray:
        """Uniform 32-bit integers of the positions start to start + count of this draw's stream.

        Philox is counter-based: a position's number is the same in whatever blocks the stream is read.
        """
        text = f"{self.seed}|{self.weight}|{self.input_index}|{self.side}"
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
        stream = np.random.Philox(key=key)
        step = start // 8  # a step of the counter gives four 64-bit words
        stream.advance(step)
        skip = start - 8 * step
        words = np.asarray(stream.random_raw((skip + count + 1) // 2), dtype="<u8")
        return words.view("<u4")[skip : skip + count]
