"""Blocks of rows that a large matrix is worked in, and its norm."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..compute.devices import CPU_DEVICE, float64_device

# Elements in a block: on a CPU it and what is computed from it stay in the cache, a GPU wants more work at a time.
BLOCK_ELEMENTS = 2**17
GPU_BLOCK_ELEMENTS = 2**22


def row_blocks(rows: int, columns: int, device: torch.device = CPU_DEVICE) -> Iterator[tuple[int, int]]:
    """The bounds (start, stop) of the blocks of rows of a matrix: the same in every pass over it."""
    step = max(1, (BLOCK_ELEMENTS if device.type == "cpu" else GPU_BLOCK_ELEMENTS) // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def squared_norm(matrix: Tensor) -> float:
    """The sum of the squares of a float32 matrix (m, n); NaN or Inf if an element is.

    Summed in float64, since squares of numbers near float32's limits exceed it.
    """
    blocks = row_blocks(matrix.shape[0], matrix.shape[1], matrix.device)
    return sum((_of_block(matrix[start:stop]) for start, stop in blocks), 0.0)


def _of_block(block: Tensor) -> float:
    if float64_device(block.device) == block.device:
        numbers = block.to(torch.float64).reshape(-1)
        return float(torch.dot(numbers, numbers))
    # without float64: scaled and summed by rows in float32, since moving the block to the CPU would take longer
    most = float(block.abs().max())
    if most == 0.0 or not math.isfinite(most):
        return most
    rows = (block / most).square().sum(1)
    return float(rows.cpu().to(torch.float64).sum()) * most * most
