"""TIES on the few numbers of a core, or of a shared basis, in place of the elements of a delta."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..numerics.core_space import CoreSpace
from .blocked_matrix import Block, in_blocks
from .kernels import Settings
from .mask_stream import MaskStream
from .sparsify import dropout_rescale, kept_count

# Left singular vectors of KnOTS below this share of the largest value are left out.
RTOL_KNOTS = 1e-6
# A vote below this share of the values that were cast is the rounding of zero.
RTOL_VOTE = 1e-13


def core_ties(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """Core Space merging with TIES (arXiv 2509.17786): the cores M_t are pruned, elected and summed, (a, b)."""
    return elected_sum([largest(delta.core, settings.density) for delta in space.deltas])


def core_dare_ties(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """As core_ties, with DARE's random dropout of the cores' entries in place of pruning, (a, b)."""
    kept = []
    for delta in space.deltas:
        core = delta.core.contiguous()
        kept.append(dropout_rescale(in_blocks(core), settings, streams[delta.term])(Block(core)))
    return elected_sum(kept)


def knots_ties(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """KnOTS with TIES (arXiv 2410.19735), with its columns kept: (a, n).

    [D_1 D_2 ...] = U S [V_1^T V_2^T ...]: in the shared basis U, the blocks S V_t^T are pruned, elected and summed.
    """
    cores = [delta.core for delta in space.deltas]
    basis, values, _ = torch.linalg.svd(torch.cat(cores, 1), full_matrices=False)
    basis = basis[:, values > RTOL_KNOTS * values[0]]
    columns = space.right.mT
    return basis @ elected_sum([largest(basis.mT @ core @ columns, settings.density) for core in cores])


def largest(values: Tensor, density: float) -> Tensor:
    """The kept_count(density, n) entries of largest magnitude; of equal ones the first in row order. 0 elsewhere."""
    n = values.numel()
    k = kept_count(density, n)
    if k in (0, n):
        return values if k else torch.zeros_like(values)
    magnitudes = values.abs().reshape(-1).numpy()
    threshold = np.partition(magnitudes, n - k)[n - k]
    kept = magnitudes > threshold
    tied = np.flatnonzero(magnitudes == threshold)
    kept[tied[: k - int(kept.sum())]] = True
    return torch.where(torch.from_numpy(kept).reshape(values.shape), values, 0.0)


def elected_sum(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of the values that agree with the sign of the sum of all; a sum of zero elects plus.

    Not divided by the number that agree, so that LoRAs without conflicts give their plain sum.
    """
    stacked = torch.stack(list(tensors))
    votes = stacked.sum(0)
    plus = votes >= -RTOL_VOTE * stacked.abs().sum(0)
    return torch.where(plus, stacked.clamp_min(0), stacked.clamp_max(0)).sum(0)
