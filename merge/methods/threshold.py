"""The magnitude above which the k largest elements of a blocked matrix lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..compute.devices import has_fast_bincount
from .blocked_matrix import BlockedMatrix


class Selection(NamedTuple):
    """The elements of a matrix above a threshold, and those of exactly that magnitude before a position."""

    threshold: float
    first_dropped: int


def select_largest(matrix: BlockedMatrix, k: int) -> Selection:
    """Select the k (0 <= k <= count) elements of largest magnitude; of tied ones (zeros too) the first in row order."""
    if k == 0:
        return Selection(float("inf"), 0)
    if k == matrix.count:
        return Selection(0.0, matrix.count)
    search = kth_by_digits if has_fast_bincount(matrix.device) else kth_by_partition
    threshold, kept, tied = search(matrix, k)
    if tied == kept:
        return Selection(threshold, matrix.count)
    for block in matrix.blocks():
        places = (block.values.abs().reshape(-1) == threshold).cpu().nonzero().reshape(-1)
        if len(places) > kept:
            return Selection(threshold, block.start + int(places[kept]))
        kept -= len(places)
    return Selection(threshold, matrix.count)


def kth_by_partition(matrix: BlockedMatrix, k: int) -> tuple[float, int, int]:
    """The k-th largest magnitude, how many elements of exactly that magnitude are kept, and how many there are.

    Both counts are 1 if all of them are kept. Collects all magnitudes in main memory, which is fastest on a CPU and
    works for every device.
    """
    n = matrix.count
    magnitudes = matrix.scratch(n)
    for block in matrix.blocks():
        stop = block.start + block.values.numel()
        torch.abs(block.values.reshape(-1).cpu(), out=magnitudes[block.start : stop])
    array = magnitudes.numpy()
    array.partition(n - k)
    threshold = array[n - k]
    if array[: n - k].max() < threshold:
        return float(threshold), 1, 1
    kept = k - int(np.count_nonzero(array[n - k :] > threshold))
    return float(threshold), kept, kept + int(np.count_nonzero(array[: n - k] == threshold))


def kth_by_digits(matrix: BlockedMatrix, k: int) -> tuple[float, int, int]:
    """As kth_by_partition, by a radix search on the bit patterns, which sort like the magnitudes.

    Three passes and no copy of the matrix, for devices with a fast bincount, where computing a block again takes less
    time than moving it.
    """
    prefix, kept, tied = 0, k, matrix.count
    for shift, bits in ((20, 11), (10, 10), (0, 10)):
        counts = torch.zeros(2**bits, dtype=torch.int64)
        for block in matrix.blocks():
            pattern = block.values.abs().reshape(-1).view(torch.int32)
            if shift < 20:
                pattern = pattern[(pattern >> (shift + bits)) == prefix]
            counts = counts.to(block.values.device) + torch.bincount(
                (pattern >> shift) & (2**bits - 1), minlength=2**bits
            )
        counts = counts.cpu()
        from_top = counts.flip(0).cumsum(0)
        place = int((from_top < kept).sum())
        digit = 2**bits - 1 - place
        tied = int(counts[digit])
        kept -= int(from_top[place]) - tied
        prefix = prefix << bits | digit
    return float(np.uint32(prefix).view(np.float32)), kept, tied
