"""TIES on the few numbers of a core, or of a shared basis, in place of the elements of a delta."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..numerics.core_space import CoreSpace, left_singular_vectors
from .blocked_matrix import Block, in_blocks
from .kernels import Settings
from .mask_stream import MaskStream
from .sparsify import dropout_rescale, kept_count

# A vote below this share of the values that were cast is the rounding of zero.
RTOL_VOTE = 1e-13


def core_ties(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """Core Space merging with TIES (arXiv 2509.17786): the cores M_t are pruned, elected and summed, (a, b)."""
    signs = space.signs()
    return signs * elected_sum([largest(signs * delta.core, settings.density) for delta in space.deltas])


def core_dare_ties(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """As core_ties, with DARE's random dropout of the cores' entries in place of pruning, (a, b)."""
    signs, kept = space.signs(), []
    for delta in space.deltas:
        core = signs * delta.core
        kept.append(dropout_rescale(in_blocks(core), settings, streams[delta.term])(Block(core)))
    return signs * elected_sum(kept)


def knots_ties(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """KnOTS with TIES (arXiv 2410.19735), with its columns kept: (a, n).

    [D_1 D_2 ...] = U S [V_1^T V_2^T ...]: in the shared basis U, the blocks S V_t^T are pruned, elected and summed.
    """
    cores = [delta.core for delta in space.deltas]
    basis = left_singular_vectors(torch.cat(cores, 1))
    columns = space.right_basis()
    return basis @ elected_sum([largest((basis.mT @ core) @ columns, settings.density) for core in cores])


def largest(values: Tensor, density: float) -> Tensor:
    """The kept_count(density, n) entries of largest magnitude; of equal ones the first in row order. 0 elsewhere."""
    n = values.numel()
    k = kept_count(density, n)
    if k in (0, n):
        return values if k else torch.zeros_like(values)
    magnitudes = values.abs().reshape(-1).numpy()
    magnitudes.partition(n - k)
    threshold = float(magnitudes[n - k])
    # hardshrink keeps what is above its bound
    kept = torch.nn.functional.hardshrink(values, math.nextafter(threshold, 0.0))
    if magnitudes[: n - k].max() == threshold and threshold > 0:
        tied = (kept.abs() == threshold).reshape(-1).nonzero().reshape(-1)
        surplus = int((kept != 0).sum()) - k
        kept.view(-1)[tied[len(tied) - surplus :]] = 0.0
    return kept


def elected_sum(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of the values that agree with the sign of the sum of all; a sum of zero elects plus.

    Not divided by the number that agree, so that LoRAs without conflicts give their plain sum.
    """
    votes, plus = tensors[0].clone(), tensors[0].clamp_min(0)
    for tensor in tensors[1:]:
        votes += tensor
        plus += tensor.clamp_min(0)
    minus = votes - plus
    return minus.lerp_(plus, (votes >= RTOL_VOTE * (minus - plus)).to(plus.dtype))
