"""Truncated SVD of a sum of low-rank products, without forming the sum unless that is cheaper.

With the stacked factors up = P X and down = Y Q, where P and Q are orthonormal, the sum has the singular values of the
core X Y. For a sum (m, n) with m <= n, of ranks that add up to R:

    route      core                      when                                   cost         accuracy
    sum        the sum, (m, n)           R > m                                  m n R        float64
    Cholesky   L_up^T L_down, (R, R)     both factors' condition is up to 1e5   (m + n) R^2  1e-6 at that condition
    QR         R_up R_down^T, (R, R)     otherwise                              twice that   float64

core_svd.py decomposes the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .core_svd import truncate_core
from .finite import require_no_overflow
from .rank_rules import RankRule
from .stacking import Term, concatenate
from .truncated import Truncated

# Cholesky of a Gram matrix loses precision as the square of the factor's condition; QR takes over above this.
MAX_CONDITION = 1e5


def truncate_sum(terms: Sequence[Term], rule: RankRule) -> Truncated | None:
    """The best approximation of the sum of weight * up @ down at the rule's rank; None when the sum is zero.

    The factors may have any precision, on a device with float64; the result is float64. Raises OverflowError if a
    factor holds NaN or Inf.
    """
    ups, downs, weights = zip(*terms, strict=True)
    if sum(up.shape[1] for up in ups) > min(ups[0].shape[0], downs[0].shape[1]):
        return truncate_core(_dense_sum(terms), rule)
    product = _scaled_product(ups, downs, weights)
    if product is None:
        return None
    left, right = _cholesky(product.left_gram), _cholesky(product.right_gram)
    if left is None or right is None:
        return _by_qr(product, rule)
    return _by_cholesky(product, left, right, rule)


class _ScaledProduct(NamedTuple):
    """(up * up_scale) @ (down_scale * down): the stacked factors, each column of up as long as its row of down.

    The scales hold the weights too. They stay apart from the factors so that only small matrices are multiplied by
    them; the Gram matrices (R, R) are those of the scaled factors.
    """

    up: Tensor  # (m, R), as in the file
    down: Tensor  # (R, n), as in the file
    up_scale: Tensor  # (R)
    down_scale: Tensor  # (R)
    left_gram: Tensor
    right_gram: Tensor


def _scaled_product(ups: Sequence[Tensor], downs: Sequence[Tensor], weights: Sequence[float]) -> _ScaledProduct | None:
    """None where every term is zero."""
    up, down = concatenate(ups, 1, torch.float64), concatenate(downs, 0, torch.float64)
    left_gram, right_gram = up.mT @ up, down @ down.mT
    up_norms, down_norms = left_gram.diagonal().sqrt(), right_gram.diagonal().sqrt()
    require_no_overflow(float(up_norms.sum() + down_norms.sum()))
    of_columns = [weight for one, weight in zip(ups, weights, strict=True) for _ in range(one.shape[1])]
    weight = torch.tensor(of_columns, dtype=torch.float64, device=up.device)
    used = (up_norms > 0) & (down_norms > 0) & (weight != 0)
    if not bool(used.any()):
        return None
    if not bool(used.all()):
        up, down, weight, up_norms, down_norms = up[:, used], down[used], weight[used], up_norms[used], down_norms[used]
        left_gram, right_gram = left_gram[used][:, used], right_gram[used][:, used]
    up_scale = (weight.abs() * down_norms / up_norms).sqrt()
    down_scale = weight / up_scale
    left_gram = left_gram * up_scale * up_scale[:, None]
    right_gram = right_gram * down_scale * down_scale[:, None]
    return _ScaledProduct(up, down, up_scale, down_scale, left_gram, right_gram)


def _cholesky(gram: Tensor) -> Tensor | None:
    """L (R, R) with gram = L @ L^T, or None where the columns of the factor are too close to dependent."""
    triangle, failed = torch.linalg.cholesky_ex(gram)
    diagonal = triangle.diagonal()
    if int(failed) != 0 or float(diagonal.min()) * MAX_CONDITION < float(diagonal.max()):
        return None
    return triangle


def _by_cholesky(product: _ScaledProduct, left: Tensor, right: Tensor, rule: RankRule) -> Truncated | None:
    core = truncate_core(left.mT @ right, rule)
    if core is None:
        return None
    # up = P left^T, so P u = up left^-T u; likewise on the right
    up_part = torch.linalg.solve_triangular(left.mT, core.up, upper=True) * product.up_scale[:, None]
    down_part = torch.linalg.solve_triangular(right.mT, core.down.mT, upper=True) * product.down_scale[:, None]
    return Truncated(product.up @ up_part, down_part.mT @ product.down, core.kept, core.total)


def _by_qr(product: _ScaledProduct, rule: RankRule) -> Truncated | None:
    p, x = torch.linalg.qr(product.up * product.up_scale)
    q, y = torch.linalg.qr((product.down * product.down_scale[:, None]).mT)
    core = truncate_core(x @ y.mT, rule)
    return None if core is None else Truncated(p @ core.up, core.down @ q.mT, core.kept, core.total)


def _dense_sum(terms: Sequence[Term]) -> Tensor:
    """The sum as a float64 matrix (m, n)."""
    up, down, _ = terms[0]
    total = torch.zeros(up.shape[0], down.shape[1], dtype=torch.float64, device=up.device)
    for up, down, weight in terms:
        total.addmm_(up.double(), down.double(), alpha=weight)
    require_no_overflow(float(total.sum()))
    return total
