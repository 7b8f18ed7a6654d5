"""The random numbers of a mask."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MaskStream:
    """A stream of random integers that depends on these fields alone, never on a global random state."""

    seed: int
    weight: str  # canonical name
    input_index: int  # of the LoRA, from 1
    side: str  # "up", "down" or "delta"

    def integers(self, start: int, count: int) -> np.ndarray:
        """The uniform 32-bit integers at positions ``start`` to ``start + count`` of the stream.

        Philox is counter-based, so a position has the same number whatever blocks the stream is read in.
        """
        text = f"{self.seed}|{self.weight}|{self.input_index}|{self.side}"
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
        stream = np.random.Philox(key=key)
        step = start // 8  # a step of the counter gives four 64-bit words
        stream.advance(step)
        skip = start - 8 * step
        words = np.asarray(stream.random_raw((skip + count + 1) // 2), dtype="<u8")
        return words.view("<u4")[skip : skip + count]
