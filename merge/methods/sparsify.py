"""What merge modes are made of: sparsify (by magnitude, at random) x consensus (sum, elected sign) x scaling.

The rules are PEFT's (peft/utils/merge_utils.py: prune, calculate_majority_sign_mask, disjoint_merge, task_arithmetic,
ties, dare_linear, dare_ties, magnitude_prune), with three repairs: floor(density * n) without float error, tied
magnitudes kept by position, and density 0 gives zeros instead of 0/0.

Sparsifiers see a matrix as blocks of rows, so that a dense delta never has to stand in memory once per LoRA; the same
blocks must come in every pass, since the shape of a matrix product can change its last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..compute.devices import has_fast_bincount
from .blocks import Blocks, Mask, MaskStream

# A sparsifier: the mask for a matrix at this density.
Sparsifier = Callable[[Blocks, float, MaskStream], Mask]


def kept_count(density: float, n: int) -> int:
    """How many of n elements a density keeps. PEFT's int(0.29 * 100) is 28; the small addend makes it 29."""
    return min(n, math.floor(density * n + 1e-9))


def keep_all(blocks: Blocks, density: float, draw: MaskStream) -> Mask:
    """No sparsification: the density is not used."""
    return lambda block, start: block


def prune_magnitude(blocks: Blocks, density: float, draw: MaskStream) -> Mask:
    """Keep the kept_count(density, blocks.count) elements of largest magnitude; of tied ones the first in row order.

    PEFT's magnitude_based_pruning (topk of the absolute values), https://arxiv.org/abs/2306.01708 section 3.
    """
    k = kept_count(density, blocks.count)
    if k == blocks.count:
        return lambda block, start: block
    if k == 0:
        return lambda block, start: torch.zeros_like(block)
    threshold, first_dropped = _magnitude_cut(blocks, k)
    # hardshrink keeps what is above its bound
    below = float(np.nextafter(np.float32(threshold), np.float32(0)))

    def mask(block: Tensor, start: int) -> Tensor:
        if threshold == 0:
            return block
        block = block.contiguous()  # so that view(-1) below writes into the result, not into a copy
        if block.device.type == "cpu":
            kept = torch.nn.functional.hardshrink(block, below)
        else:  # older versions of torch lack hardshrink on Intel's GPUs, and round its bound on Metal
            kept = block.masked_fill(block.abs() < threshold, 0.0)
        if start + block.numel() > first_dropped:
            late = kept.view(-1)[max(0, first_dropped - start) :]
            late.masked_fill_(late.abs() == threshold, 0.0)
        return kept

    return mask


def _magnitude_cut(blocks: Blocks, k: int) -> tuple[float, int]:
    """The k-th largest magnitude, and the position from which on elements of just that magnitude are dropped."""
    search = kth_by_digits if has_fast_bincount(next(blocks.each()).device) else kth_by_partition
    threshold, wanted, tied = search(blocks, k)
    if tied == wanted or threshold == 0:
        return threshold, blocks.count
    position = 0
    for block in blocks.each():
        places = (block.abs().reshape(-1) == threshold).cpu().nonzero().reshape(-1)
        if len(places) > wanted:
            return threshold, position + int(places[wanted])
        wanted -= len(places)
        position += block.numel()
    return threshold, blocks.count


def kth_by_partition(blocks: Blocks, k: int) -> tuple[float, int, int]:
    """The k-th largest magnitude (1 <= k < blocks.count), how many of just that size are kept, and how many there are.

    Collects all magnitudes in main memory: the fastest way on a CPU, and one that works for every device.
    """
    n, position = blocks.count, 0
    magnitudes = blocks.memory(n)
    for block in blocks.each():
        torch.abs(block.reshape(-1).cpu(), out=magnitudes[position : position + block.numel()])
        position += block.numel()
    array = magnitudes.numpy()
    array.partition(n - k)
    threshold = array[n - k]
    if array[: n - k].max() < threshold:  # no tie across the cut
        return float(threshold), 1, 1
    wanted = k - int(np.count_nonzero(array[n - k :] > threshold))
    return float(threshold), wanted, wanted + int(np.count_nonzero(array[: n - k] == threshold))


def kth_by_digits(blocks: Blocks, k: int) -> tuple[float, int, int]:
    """As kth_by_partition, by counting the digits of the bit patterns, which sort as the magnitudes do.

    Three passes over the blocks and no copy of them: for devices with a fast bincount, where recomputing a block costs
    less than moving it.
    """
    prefix, wanted, tied = 0, k, blocks.count
    for shift, bits in ((20, 11), (10, 10), (0, 10)):
        counts = torch.zeros(2**bits, dtype=torch.int64)
        for block in blocks.each():
            pattern = block.abs().reshape(-1).view(torch.int32)
            if shift < 20:
                pattern = pattern[(pattern >> (shift + bits)) == prefix]
            counts = counts.to(block.device) + torch.bincount((pattern >> shift) & (2**bits - 1), minlength=2**bits)
        counts = counts.cpu()
        from_top = counts.flip(0).cumsum(0)
        place = int((from_top < wanted).sum())
        digit = 2**bits - 1 - place
        tied = int(counts[digit])
        wanted -= int(from_top[place]) - tied
        prefix = prefix << bits | digit
    return float(np.uint32(prefix).view(np.float32)), wanted, tied


def dropout_rescale(blocks: Blocks, density: float, draw: MaskStream) -> Mask:
    """Keep each element with probability density and divide it by the density (DARE, arXiv 2311.03099).

    PEFT's random_pruning with rescale. The mask comes from the draw alone, never from a global random state.
    """
    if density >= 1:
        return lambda block, start: block
    limit = min(round(density * 2**32), 2**32 - 1)
    if limit <= 0:
        return lambda block, start: torch.zeros_like(block)

    def mask(block: Tensor, start: int) -> Tensor:
        keep = torch.from_numpy(draw.integers(start, block.numel()) < limit).reshape(block.shape)
        return (block * keep.to(block.device)).div_(density)

    return mask
