"""Sparsifiers: which elements of a LoRA's matrix take part in a merge.

Each gets the matrix in blocks of rows, the settings and the random stream, and returns a mask for its blocks. The rules
are PEFT's (peft/utils/merge_utils.py: prune) with three fixes: floor(density * n) without float error, ties resolved by
position, and zeros at density 0 instead of 0/0.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .blocked_matrix import Block, BlockedMatrix, Mask
from .kernels import Settings, keep_values
from .mask_stream import MaskStream
from .threshold import select_largest


def prune_magnitude(matrix: BlockedMatrix, settings: Settings, stream: MaskStream) -> Mask:
    """Keep the kept_count(density, count) elements of largest magnitude; of tied ones the first in row order.

    PEFT's magnitude_based_pruning (topk of the absolute values), arXiv 2306.01708 section 3.
    """
    return keep_largest(matrix, kept_count(settings.density, matrix.count))


def keep_largest(matrix: BlockedMatrix, k: int) -> Mask:
    """Keep the k elements of largest magnitude; of tied ones the first in row order."""
    if k == matrix.count:
        return keep_values
    if k == 0:
        return _none
    threshold, first_dropped = select_largest(matrix, k)
    if threshold == 0:  # fewer than k elements are nonzero
        return keep_values
    # hardshrink keeps what is above its bound
    below = float(np.nextafter(np.float32(threshold), np.float32(0)))

    def mask(block: Block) -> Tensor:
        values = block.values.contiguous()  # so that view(-1) below writes into the result, not into a copy
        if values.device.type == "cpu":
            kept = torch.nn.functional.hardshrink(values, below)
        else:  # older versions of torch lack hardshrink on Intel's GPUs, and round its bound on Metal
            kept = values.masked_fill(values.abs() < threshold, 0.0)
        if block.start + values.numel() > first_dropped:
            late = kept.view(-1)[max(0, first_dropped - block.start) :]
            late.masked_fill_(late.abs() == threshold, 0.0)
        return kept

    return mask


def dropout_rescale(matrix: BlockedMatrix, settings: Settings, stream: MaskStream) -> Mask:
    """Keep each element with probability ``density`` and divide it by the density (DARE, arXiv 2311.03099).

    PEFT's random_pruning with rescale.
    """
    density = settings.density
    if density >= 1:
        return keep_values
    limit = min(round(density * 2**32), 2**32 - 1)
    if limit <= 0:
        return _none

    def mask(block: Block) -> Tensor:
        values = block.values
        keep = torch.from_numpy(stream.integers(block.start, values.numel()) < limit).reshape(values.shape)
        return (values * keep.to(values.device)).div_(density)

    return mask


def kept_count(density: float, n: int) -> int:
    """How many of n elements a density keeps. PEFT's int(0.29 * 100) is 28; the small addend makes it 29."""
    return min(n, math.floor(density * n + 1e-9))


def _none(block: Block) -> Tensor:
    return torch.zeros_like(block.values)
