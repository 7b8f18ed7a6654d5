"""Applying a sparsifier to a matrix in blocks of rows: what the tests of masks share."""

from __future__ import annotations

import math

import torch
from lora_pack.merge.methods.blocked_matrix import in_blocks
from lora_pack.merge.methods.kernels import Settings, Sparsifier
from lora_pack.merge.methods.mask_stream import MaskStream
from lora_pack.merge.methods.sparsify import dropout_rescale
from torch import Tensor

STREAM = MaskStream(seed=1, weight="model:x", input_index=1, side="delta")


def sparse(
    sparsify: Sparsifier, matrix: Tensor, density: float, rows: int | None = None, stream: MaskStream = STREAM
) -> Tensor:
    """The sparsified matrix, worked in blocks of so many rows."""
    blocked = in_blocks(matrix, rows)
    mask = sparsify(blocked, Settings(density), stream)
    return torch.cat([mask(block) for block in blocked.blocks()])


def random_mask(stream: MaskStream, density: float, shape: tuple[int, int], rows: int | None = None) -> Tensor:
    return sparse(dropout_rescale, torch.ones(shape), density, rows, stream) != 0


def sigmas(hits: float, n: int, p: float) -> float:
    """How many standard deviations the hits of n trials at probability p are off."""
    return abs(hits - n * p) / math.sqrt(n * p * (1 - p))
