"""A sum of low-rank products in orthonormal bases of its stacked factors.

The stacked factors are up = P X and down = Y Q, where P (m, a) has orthonormal columns and Q (b, n) orthonormal rows,
so all that can be asked of the sum is in the small coordinates X (a, R) and Y (R, b):

    route      when                                     cost         accuracy
    Cholesky   both factors' condition is up to a bound  (m + n) R^2  1e-16 times its square
    QR         otherwise                                 twice that   float64
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .finite import require_no_overflow
from .stacking import Term, concatenate

# Cholesky of a Gram matrix loses precision as the square of the factor's condition; QR takes over above this bound.
MAX_CONDITION = 1e5


@dataclass(frozen=True, eq=False)
class OrthonormalBases:
    """Coordinates of the stacked factors, and the way back to (m, n).

    ``term_of`` (R) is the term that each column of ``left`` and each row of ``right`` belongs to; the terms' weights
    are multiplied in. Columns that are zero are left out.
    """

    left: Tensor  # X (a, R)
    right: Tensor  # Y (R, b)
    term_of: Tensor
    from_left: Callable[[Tensor], Tensor]  # P @ x for x (a, k)
    from_right: Callable[[Tensor], Tensor]  # y @ Q for y (k, b)


def orthonormal_bases(terms: Sequence[Term], max_condition: float = MAX_CONDITION) -> OrthonormalBases | None:
    """The bases of the sum of weight * up @ down, in float64 on the factors' device; None where every term is zero.

    ``max_condition`` is the bound on the factors' condition up to which Cholesky is used. Raises OverflowError if a
    factor holds NaN or Inf.
    """
    product = _scaled_product(terms)
    if product is None:
        return None
    left, right = (_cholesky(gram, max_condition) for gram in (product.left_gram, product.right_gram))
    if left is None or right is None:
        return _by_qr(product)
    return _by_cholesky(product, left, right)


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
    term_of: Tensor  # (R)


def _scaled_product(terms: Sequence[Term]) -> _ScaledProduct | None:
    ups, downs, weights = zip(*terms, strict=True)
    up, down = concatenate(ups, 1, torch.float64), concatenate(downs, 0, torch.float64)
    left_gram, right_gram = up.mT @ up, down @ down.mT
    up_norms, down_norms = left_gram.diagonal().sqrt(), right_gram.diagonal().sqrt()
    require_no_overflow(float(up_norms.sum() + down_norms.sum()))
    term_of = torch.tensor([term for term, one in enumerate(ups) for _ in range(one.shape[1])], device=up.device)
    weight = torch.tensor(weights, dtype=torch.float64, device=up.device)[term_of]
    used = (up_norms > 0) & (down_norms > 0) & (weight != 0)
    if not bool(used.any()):
        return None
    if not bool(used.all()):
        up, down, weight, up_norms, down_norms = up[:, used], down[used], weight[used], up_norms[used], down_norms[used]
        left_gram, right_gram, term_of = left_gram[used][:, used], right_gram[used][:, used], term_of[used]
    up_scale = (weight.abs() * down_norms / up_norms).sqrt()
    down_scale = weight / up_scale
    left_gram = left_gram * up_scale * up_scale[:, None]
    right_gram = right_gram * down_scale * down_scale[:, None]
    return _ScaledProduct(up, down, up_scale, down_scale, left_gram, right_gram, term_of)


def _cholesky(gram: Tensor, max_condition: float) -> Tensor | None:
    """L (R, R) with gram = L @ L^T, or None where the columns of the factor are too close to dependent."""
    triangle, failed = torch.linalg.cholesky_ex(gram)
    diagonal = triangle.diagonal()
    if int(failed) != 0 or float(diagonal.min()) * max_condition < float(diagonal.max()):
        return None
    return triangle


def _by_cholesky(product: _ScaledProduct, left: Tensor, right: Tensor) -> OrthonormalBases:
    def from_left(x: Tensor) -> Tensor:
        # up = P left^T, so P x = up left^-T x; likewise on the right
        part = torch.linalg.solve_triangular(left.mT, x, upper=True) * product.up_scale[:, None]
        return product.up @ part

    def from_right(y: Tensor) -> Tensor:
        part = torch.linalg.solve_triangular(right.mT, y.mT, upper=True) * product.down_scale[:, None]
        return part.mT @ product.down

    return OrthonormalBases(left.mT, right, product.term_of, from_left, from_right)


def _by_qr(product: _ScaledProduct) -> OrthonormalBases:
    p, x = torch.linalg.qr(product.up * product.up_scale)
    q, y = torch.linalg.qr((product.down * product.down_scale[:, None]).mT)
    return OrthonormalBases(x, y.mT, product.term_of, lambda left: p @ left, lambda right: right @ q.mT)
