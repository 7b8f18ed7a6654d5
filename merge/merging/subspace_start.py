"""The start of the subspace iteration that truncates a merged delta (numerics/dense_svd.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..methods.mask_stream import MaskStream
from ..numerics.dense_svd import SMALLEST_FLOAT
from ..numerics.stacking import stack
from .delta_rows import factors_on
from .matching import WeightGroup

# Columns that the iteration has in addition to the rank.
MIN_OVERSAMPLING = 16


def subspace_start(group: WeightGroup, rank: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A guess at the dominant left subspace of the merged delta, (m, j) with j <= rank, and random columns (m, p)."""
    # not the user's seed: modes without random masks must not depend on it
    stream = MaskStream(0, group.weight, 0, "start")
    start = _likely_columns(group, rank, stream, device)
    spare = max(MIN_OVERSAMPLING, rank // 2) + rank - start.shape[1]
    return start, random_signs(group.rows, spare, stream).to(device)


def _likely_columns(group: WeightGroup, rank: int, stream: MaskStream, device: torch.device) -> Tensor:
    """At most ``rank`` columns near the dominant left subspace of the sum of the LoRAs. Masking moves it little.

    These are all columns of the stacked up factors if they are few enough, else random columns after one step of power
    iteration.
    """
    terms = [
        (*factors_on(device, contribution), contribution.effective_weight)
        for contribution in group.contributions
        if contribution.adapter.has_factors
    ]
    if not terms:
        return torch.zeros(group.rows, 0, device=device)
    up, down = stack(terms, torch.float32)
    if up.shape[1] <= rank:
        return up
    # at norm 1 the products neither overflow nor underflow
    up, down = (factor / max(float(torch.linalg.vector_norm(factor)), SMALLEST_FLOAT) for factor in (up, down))
    random = random_signs(group.rows, rank, stream).to(device)
    return up @ ((down @ down.mT) @ (up.mT @ random))


def random_signs(rows: int, columns: int, stream: MaskStream) -> Tensor:
    """A matrix (rows, columns) of 1 and -1, the same on every device; as good as Gaussians in a subspace search."""
    signs = torch.from_numpy((stream.integers(0, rows * columns) & 1).astype("float32"))
    return (signs * 2 - 1).reshape(rows, columns)
