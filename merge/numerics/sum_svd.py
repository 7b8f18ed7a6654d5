"""Truncated SVD of a sum of low-rank products, without forming the sum unless that is cheaper.

For a sum (m, n) with m <= n, of ranks that add up to R:

    route           core                             when     cost
    sum             the sum itself, (m, n)           R > m    m n R
    in its bases    X Y of orthonormal_bases, (R, R) R <= m   (m + n) R^2

core_svd.py decomposes the core.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .core_svd import truncate_core
from .finite import require_no_overflow
from .orthonormal_bases import orthonormal_bases
from .rank_rules import RankRule
from .stacking import Term
from .truncated import Truncated


def truncate_sum(terms: Sequence[Term], rule: RankRule) -> Truncated | None:
    """The best approximation of the sum of weight * up @ down at the rule's rank; None when the sum is zero.

    The factors may have any precision, on a device with float64; the result is float64. Raises OverflowError if a
    factor holds NaN or Inf.
    """
    ups, downs, _ = zip(*terms, strict=True)
    if sum(up.shape[1] for up in ups) > min(ups[0].shape[0], downs[0].shape[1]):
        return truncate_core(_dense_sum(terms), rule)
    bases = orthonormal_bases(terms)
    core = truncate_core(bases.left @ bases.right, rule) if bases is not None else None
    if bases is None or core is None:
        return None
    return Truncated(bases.from_left(core.up), bases.from_right(core.down), core.kept, core.total)


def _dense_sum(terms: Sequence[Term]) -> Tensor:
    """The sum as a float64 matrix (m, n)."""
    up, down, _ = terms[0]
    total = torch.zeros(up.shape[0], down.shape[1], dtype=torch.float64, device=up.device)
    for up, down, weight in terms:
        total.addmm_(up.double(), down.double(), alpha=weight)
    require_no_overflow(float(total.sum()))
    return total
