"""Truncated SVD of a dense float32 matrix, such as a merged delta that has no factors.

For a matrix (m, n) with m <= n, rank k and a search subspace of l columns, l a little larger than k:

    route                           when                                            cost                  error
    subspace iteration              3 l < m, and it settles within MAX_ITERATIONS   4 m n l an iteration  1.01 of the
                                                                                                          least possible
    ... and a float64 projection    the squared error is below 1e-5 of the          + 2 m n l             the same
                                    squared norm
    eigenvectors of the m x m       otherwise, and for rules that need all          m^2 n + 10 m^3,       the least
    Gram matrix in float64          singular values                                 in float64            possible
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..compute.context import CancelCheck, no_cancel
from ..compute.devices import float64_device, in_float64, orthonormal
from .blocking import GPU_BLOCK_ELEMENTS, row_blocks, squared_norm
from .finite import require_no_overflow
from .rank_rules import RankRule, fixed_rank
from .truncated import Truncated, energy

# Singular values below this share of the largest are rounding of the matrix's float32 elements.
RTOL_FLOAT32 = 1e-7
# Iterations before the Gram matrix takes over.
MAX_ITERATIONS = 16
# The iteration stops when the expected further gain is at most this share of the remaining squared error. On masked,
# flat and falling spectra the true further gain was at most twice the expected one, which is 0.5 % of the error.
MAX_EXPECTED_GAIN = 5e-3
# Below this share of the squared norm, the rounding of float32 products is no longer small against the error.
MIN_ERROR_FOR_FLOAT32 = 1e-5
# Keeps a norm that is divided by from being zero.
SMALLEST_FLOAT = torch.finfo(torch.float32).tiny


def truncate_dense(
    dense: Tensor, rank: int, start: Tensor, noise: Tensor, check: CancelCheck, total: float | None = None
) -> Truncated | None:
    """The best approximation of a dense (m, n) matrix at a rank, within 1 % of the least possible error.

    Subspace iteration (Halko, Martinsson, Tropp, arXiv 0909.4061) from ``start`` (m, j), a guess at the dominant left
    subspace, and random columns ``noise`` (m, p), until another iteration would gain next to nothing; the squared error
    of a projection is known exactly, ||D||^2 - ||Q^T D||^2. ``total`` is ||D||^2 if the caller knows it.

    Returns float32 factors; None when the matrix is zero. Raises OverflowError if it holds NaN or Inf.
    """
    total = squared_norm(dense) if total is None else total
    require_no_overflow(total)
    if total == 0.0:
        return None
    rank = min(rank, *dense.shape)
    if 3 * (start.shape[1] + noise.shape[1]) >= min(dense.shape):
        return _by_gram(dense, fixed_rank(rank), total, check)
    kept = gain = last_gain = 0.0
    basis = orthonormal(torch.cat([start, noise], 1))
    for _ in range(MAX_ITERATIONS):
        check()
        image = dense.mT @ basis
        squares, vectors = torch.linalg.eigh(_gram(image.mT))
        last_kept, kept = kept, float(squares[-rank:].sum())
        gain, last_gain = (kept - last_kept if last_kept else 0.0), gain
        error = total - kept
        if last_kept and _expected_gain(gain, last_gain) <= MAX_EXPECTED_GAIN * max(error, RTOL_FLOAT32 * total):
            if error < MIN_ERROR_FOR_FLOAT32 * total:
                return _project(dense, basis, fixed_rank(rank), total, check)
            return _from_image(basis, image, squares[-rank:], vectors[:, -rank:], total)
        check()
        # only the directions count: at norm 1 nothing over- or underflows
        basis = orthonormal(dense @ (image / max(float(torch.linalg.vector_norm(image)), SMALLEST_FLOAT)))
    return _by_gram(dense, fixed_rank(rank), total, check)


def truncate_dense_by_rule(dense: Tensor, rule: RankRule, check: CancelCheck) -> Truncated | None:
    """The best approximation of a dense matrix at the rank that a rule picks from all its singular values.

    Returns float32 factors; None when the matrix is zero. Raises OverflowError if it holds NaN or Inf.
    """
    total = squared_norm(dense)
    require_no_overflow(total)
    return None if total == 0.0 else _by_gram(dense, rule, total, check)


def truncation_bytes(rows: int, columns: int) -> int:
    """About the most memory, in bytes, that a GPU needs to truncate a dense matrix, besides the matrix: a block of it
    in float64, a Gram matrix and its eigenvectors."""
    return 8 * min(rows * columns, GPU_BLOCK_ELEMENTS) + 16 * min(rows, columns) ** 2


def _expected_gain(gain: float, last_gain: float) -> float:
    """The gain of all further iterations, if each gains the same share of its predecessor's gain."""
    ratio = min(gain / last_gain, 0.99) if last_gain > 0 else 0.99
    return max(0.0, gain) * ratio / (1 - ratio)


def _from_image(basis: Tensor, image: Tensor, squares: Tensor, vectors: Tensor, total: float) -> Truncated:
    """The best approximation of basis (m, l) @ image^T (l, n), given the largest eigenvalues (k) of image^T @ image and
    their eigenvectors (l, k)."""
    real = squares > squares[-1] * RTOL_FLOAT32**2
    vectors, root = vectors[:, real].flip(1), squares[real].flip(0).sqrt().sqrt()
    device = float64_device(basis.device)
    left, right = (vectors * root).to(device), (vectors / root).to(device)
    up, down = in_float64(basis) @ left, right.mT @ in_float64(image).mT
    return Truncated(up.float(), down.float(), float(squares[real].sum()), total)


def _by_gram(dense: Tensor, rule: RankRule, total: float, check: CancelCheck) -> Truncated:
    """The best approximation from the eigenvectors of the smaller Gram matrix, accurate to float64 rounding."""
    if dense.shape[0] > dense.shape[1]:
        return _by_gram(dense.mT, rule, total, check).transposed()
    check()
    gram = _gram(dense, check)
    check()
    squares, vectors = torch.linalg.eigh(gram)
    check()
    # the Gram matrix gets large singular values right; the projection measures those near its rounding again
    squares = squares.flip(0).clamp_min(0)
    wanted = rule(squares[squares > squares[0] * RTOL_FLOAT32**2].sqrt())
    directions = vectors.flip(1)[:, :wanted].to(float64_device(dense.device))
    # the rule has chosen: asked again about the values kept, a rule for a share of their sum would drop more
    return _project(dense, directions, fixed_rank(wanted), total, check)


def _project(dense: Tensor, directions: Tensor, rule: RankRule, total: float, check: CancelCheck) -> Truncated:
    """The best approximation at the rule's rank whose columns are in the span of ``directions`` (m, l), in float64."""
    basis = orthonormal(in_float64(directions))
    image = torch.zeros(basis.shape[1], dense.shape[1], dtype=torch.float64, device=basis.device)
    for start, stop in row_blocks(dense.shape[0], dense.shape[1], dense.device):
        check()
        image.addmm_(basis[start:stop].mT, in_float64(dense[start:stop]))
    q, r = torch.linalg.qr(image.mT)
    u, values, vh = torch.linalg.svd(r.mT.cpu(), full_matrices=False)
    k = rule(values[values > values[0] * RTOL_FLOAT32])
    root = values[:k].sqrt()
    up, down = basis @ (u[:, :k] * root).to(q.device), (vh[:k] * root[:, None]).to(q.device) @ q.mT
    return Truncated(up.float(), down.float(), energy(values[:k]), total)


def _gram(wide: Tensor, check: CancelCheck = no_cancel) -> Tensor:
    """wide @ wide^T in float64, summed over blocks of columns; on the CPU, which is fastest at decomposing it."""
    gram = torch.zeros(wide.shape[0], wide.shape[0], dtype=torch.float64, device=float64_device(wide.device))
    for start, stop in row_blocks(wide.shape[1], wide.shape[0], wide.device):
        check()
        block = in_float64(wide[:, start:stop])
        gram.addmm_(block, block.mT)
        del block  # before the next one is made: on a GPU a block takes 32 MB
    return gram.cpu()
