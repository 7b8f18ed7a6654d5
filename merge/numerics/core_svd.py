"""Truncated SVD of a small float64 matrix, the core of a larger one.

route                         when                                                    cost        accuracy
eigenvectors of core core^T   the smallest value kept and the norm of those dropped   1/2 an SVD  1e-8 of the
                              are above 1e-4 of the largest value                                 largest value
SVD                           otherwise                                               1           float64
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rank_rules import RankRule
from .truncated import Truncated, energy

# Squaring limits eigh to about 1e-8 of the largest singular value; below that, the order of the values and thus the
# truncation is arbitrary. This stays far above it.
MIN_RATIO_FOR_EIGH = 1e-4
# Singular values below this share of the largest are float64 rounding, not part of the matrix.
RTOL_FLOAT64 = 1e-12


def truncate_core(core: Tensor, rule: RankRule) -> Truncated | None:
    """The best approximation of a core (a, b) at the rule's rank, on its device; None when it is zero.

    Decomposed on the CPU, which is fastest for small matrices.
    """
    if core.shape[0] > core.shape[1]:
        flipped = truncate_core(core.mT, rule)
        return None if flipped is None else flipped.transposed()
    on_cpu = core.cpu()
    best = by_eigenvectors(on_cpu, rule) or by_svd(on_cpu, rule)
    return None if best is None else best.to(core.device)


def by_eigenvectors(core: Tensor, rule: RankRule) -> Truncated | None:
    """None where a singular value that decides the truncation is too small to be seen in core @ core^T."""
    squares, vectors = torch.linalg.eigh(core @ core.mT)
    values = squares.flip(0).clamp_min(0).sqrt()
    if float(values[0]) == 0.0:
        return None
    k = rule(values)
    dropped = float(torch.linalg.vector_norm(values[k:])) if k < min(core.shape) else float("inf")
    if min(float(values[k - 1]), dropped) < MIN_RATIO_FOR_EIGH * float(values[0]):
        return None
    left, root = vectors.flip(1)[:, :k], values[:k].sqrt()
    return Truncated(left * root, (core.mT @ (left / root)).mT, energy(values[:k]), energy(values))


def by_svd(core: Tensor, rule: RankRule) -> Truncated | None:
    """None when the core is zero."""
    u, values, vh = torch.linalg.svd(core, full_matrices=False)
    if float(values[0]) == 0.0:
        return None
    k = rule(values[values > values[0] * RTOL_FLOAT64])
    root = values[:k].sqrt()
    return Truncated(u[:, :k] * root, vh[:k] * root[:, None], energy(values[:k]), energy(values))
