"""Applying a sparsifier to a matrix in blocks of rows: what the tests of masks share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.merging.key_resolver import resolver_for
from lora_pack.merge.methods.blocked_matrix import in_blocks
from lora_pack.merge.methods.kernels import Settings, Sparsifier
from lora_pack.merge.methods.mask_stream import MaskStream
from lora_pack.merge.methods.sparsify import dropout_rescale
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import drawn_masks
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


def plain(mode: str) -> str:
    return mode.removesuffix("_svd")


def masks_for(mode: str, seed: int, loras: Sequence[Lora], name: str, density: float) -> oracle.Masks | None:
    """The masks that DARE draws for a weight; None for other modes."""
    if "dare" not in mode:
        return None
    return drawn_masks(seed, resolver_for(loras).resolve(name).weight, density)


def sigmas(hits: float, n: int, p: float) -> float:
    """How many standard deviations the hits of n trials at probability p are off."""
    return abs(hits - n * p) / math.sqrt(n * p * (1 - p))
