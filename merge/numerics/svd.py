"""Singular value decompositions: exact ones of sums of low-rank factors, truncated ones of dense deltas, rank rules.

Everything returns balanced factors: up and down each carry the square root of the singular values, so that neither
overflows half precision (an up of U * S does, at S = 1e5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..compute.context import CancelCheck, no_cancel
from ..compute.devices import CPU_DEVICE, float64_device, in_float64, orthonormal

# Factors up (m, r) and down (r, n), and what their product counts in a sum.
Term = tuple[Tensor, Tensor, float]
# Picks a rank, at least 1, from descending singular values.
RankRule = Callable[[Tensor], int]

# Singular values below this share of the largest are rounding of the float64 arithmetic, no part of the sum.
RTOL_EXACT = 1e-12
# The same for dense deltas, whose elements are rounded to float32.
RTOL_DENSE = 1e-7
# Eigenvectors of a Gram matrix see singular values down to the root of float64's rounding, 1e-8 of the largest; a cut
# among smaller ones would be by chance. They are trusted where what is kept and what is cut off is far above that.
MIN_RATIO_FOR_EIGH = 1e-4
# Columns of a Gram matrix that are computed at a time.
GRAM_COLUMNS = 128
# Cholesky of a Gram matrix loses precision as the square of the factor's condition; above this QR takes over.
MAX_CONDITION = 1e5
# Root of the summed squares of a product's terms over the norm of their sum: float32 loses the digits that this has.
MAX_CANCELLATION = 4
# Elements per block of rows of a dense delta: on a CPU a block and what is made of it stay in the cache, a card wants
# more at a time.
BLOCK_ELEMENTS = 2**17
GPU_BLOCK_ELEMENTS = 2**22
# torch works up to this many in the calling thread; its other threads wait for more by spinning, on the core that
# hashes what is written.
SERIAL_ELEMENTS = 2**15 - 1
# Keeps a norm that is divided by from being zero.
SMALLEST_FLOAT = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, eq=False)
class Truncated:
    """Balanced factors up (m, k) and down (k, n), and the squared norms kept and in all."""

    up: Tensor
    down: Tensor
    kept: float
    total: float


def fixed_rank(rank: int) -> RankRule:
    return lambda values: min(rank, len(values))


def ratio_rank(ratio: float, most: int) -> RankRule:
    """The smallest rank whose next singular value is at most 1/ratio of the largest (kohya's sv_ratio)."""
    return lambda values: _bounded(int((values > values[0] / ratio).sum()), most, values)


def cumulative_rank(share: float, most: int) -> RankRule:
    """The smallest rank whose singular values sum to at least this share of all (kohya's sv_cumulative)."""
    return lambda values: _bounded(_first_reaching(values, share), most, values)


def frobenius_rank(share: float, most: int) -> RankRule:
    """The smallest rank that keeps at least this share of the Frobenius norm (kohya's sv_fro)."""
    return lambda values: _bounded(_first_reaching(values.square(), share * share), most, values)


def _first_reaching(values: Tensor, share: float) -> int:
    sums = values.double().cumsum(0)
    return int((sums < share * sums[-1] * (1 - 1e-12)).sum()) + 1


def _bounded(rank: int, most: int, values: Tensor) -> int:
    return max(1, min(rank, most, len(values)))


def stack(terms: Sequence[Term], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The sum of g * up @ down over (up (m, r), down (r, n), g) as one product (m, R) @ (R, n), exact.

    Each factor carries sqrt|g|, the down the sign (PEFT's split in add_weighted_adapter).
    """
    ups, downs, gains = zip(*terms, strict=True)
    return stack_ups(ups, gains, dtype), stack_downs(downs, gains, dtype)


def stack_ups(ups: Sequence[Tensor], gains: Sequence[float], dtype: torch.dtype) -> Tensor:
    """The up factor (m, R) of ``stack``."""
    whole, rooms = _room(ups, 1, dtype)
    for room, up, gain in zip(rooms, ups, gains, strict=True):
        _scale_into(room, up, abs(gain) ** 0.5)
    return whole


def stack_downs(downs: Sequence[Tensor], gains: Sequence[float], dtype: torch.dtype) -> Tensor:
    """The down factor (R, n) of ``stack``."""
    whole, rooms = _room(downs, 0, dtype)
    for room, down, gain in zip(rooms, downs, gains, strict=True):
        # as one column, since a row may be longer than a block
        _scale_into(room.view(-1, 1), down.reshape(-1, 1), math.copysign(abs(gain) ** 0.5, gain))
    return whole


def _scale_into(room: Tensor, part: Tensor, factor: float) -> None:
    """``room`` becomes ``part`` (m, r) times a factor, computed in float32 or better and rounded once."""
    precision = torch.promote_types(room.dtype, torch.float32)
    step = max(1, (SERIAL_ELEMENTS if part.device.type == "cpu" else part.numel()) // part.shape[1])
    for start in range(0, part.shape[0], step):
        block, place = part[start : start + step], room[start : start + step]
        if precision == room.dtype:
            place.copy_(block).mul_(factor)
        else:
            torch.mul(block.to(precision), factor, out=place)


def _beside(parts: Sequence[Tensor], dim: int, dtype: torch.dtype) -> Tensor:
    """Matrices side by side as one, each number converted as it is copied."""
    whole, rooms = _room(parts, dim, dtype)
    for room, part in zip(rooms, parts, strict=True):
        room.copy_(part)
    return whole


def _room(parts: Sequence[Tensor], dim: int, dtype: torch.dtype) -> tuple[Tensor, Sequence[Tensor]]:
    """An empty matrix for the parts side by side, and the place of each in it."""
    ranks = [part.shape[dim] for part in parts]
    shape = list(parts[0].shape)
    shape[dim] = sum(ranks)
    whole = torch.empty(shape, dtype=dtype, device=parts[0].device)
    return whole, whole.split(ranks, dim)


def truncate_product(up: Tensor, down: Tensor, rule: RankRule) -> Truncated | None:
    """As truncate_sum, of one product up (m, R) @ down (R, n)."""
    return truncate_sum([(up, down, 1.0)], rule)


def truncate_sum(terms: Sequence[Term], rule: RankRule) -> Truncated | None:
    """The best approximation of a sum of g * up @ down of the rule's rank, without forming a product.

    None when the sum is zero. Computed in float64 from the SVD of an R x R core: with the stacked factors up = P X and
    down = Y Q, P and Q orthonormal, the SVD of X Y gives that of the sum. Where the ranks add up to more than the sum's
    rows or columns it is formed: that is cheaper, and the time grows linearly with them. Factors may be of any
    precision, on a device that has float64; returns float64 factors. Raises OverflowError if a factor holds NaN or Inf.
    """
    ups, downs, of_terms = zip(*terms, strict=True)
    if sum(up.shape[1] for up in ups) > min(ups[0].shape[0], downs[0].shape[1]):
        return _by_product(terms, rule)
    up, down = _beside(ups, 1, torch.float64), _beside(downs, 0, torch.float64)
    left_gram, right_gram = _inner_products(up), _inner_products(down.mT)
    # the gains and what brings a column of up and its row of down to one length are counted in the small matrices
    up_norms, down_norms = left_gram.diagonal().sqrt(), right_gram.diagonal().sqrt()
    _require_finite(float(up_norms.sum() + down_norms.sum()))
    each = [gain for one, gain in zip(ups, of_terms, strict=True) for _ in range(one.shape[1])]
    gains = torch.tensor(each, dtype=torch.float64, device=up.device)
    alive = (up_norms > 0) & (down_norms > 0) & (gains != 0)
    if not bool(alive.all()):
        if not bool(alive.any()):
            return None
        up, down, gains, up_norms, down_norms = (
            up[:, alive],
            down[alive],
            gains[alive],
            up_norms[alive],
            down_norms[alive],
        )
        left_gram, right_gram = left_gram[alive][:, alive], right_gram[alive][:, alive]
    up_scale = (gains.abs() * down_norms / up_norms).sqrt()
    down_scale = gains / up_scale
    left = _triangle(left_gram * up_scale * up_scale[:, None])
    right = _triangle(right_gram * down_scale * down_scale[:, None])
    if left is None or right is None:
        return _by_qr(up * up_scale, down * down_scale[:, None], rule)
    core = _balanced(left.mT @ right, rule)
    if core is None:
        return None
    # up = P left^T, so P u = up left^-T u; likewise on the right
    up_k = up @ (torch.linalg.solve_triangular(left.mT, core.up, upper=True) * up_scale[:, None])
    down_k = (torch.linalg.solve_triangular(right.mT, core.down.mT, upper=True) * down_scale[:, None]).mT @ down
    return Truncated(up_k, down_k, core.kept, core.total)


def float32_factors(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Factors whose float32 product is as accurate as float32 can be.

    Those of a file as they are, unless their terms cancel (badly conditioned ones): then the balanced factors of
    their SVD, computed in float64.
    """
    up, down = up.float(), down.float()
    terms = (torch.linalg.vector_norm(up, dim=0) * torch.linalg.vector_norm(down, dim=1)).double().square().sum()
    # ||up @ down||^2 = <up^T up, down down^T>, without forming the product
    up64, down64 = up.double(), down.double()
    square = float((_inner_products(up64) * _inner_products(down64.mT)).sum())
    if float(terms) <= MAX_CANCELLATION**2 * square:
        return up, down
    best = truncate_product(up64, down64, fixed_rank(up.shape[1]))
    return (up, down) if best is None else (best.up.float(), best.down.float())


def _triangle(gram: Tensor) -> Tensor | None:
    """Cholesky's L of a Gram matrix (R, R), or None when the columns behind it are too close to dependent."""
    triangle, failed = torch.linalg.cholesky_ex(gram)
    diagonal = triangle.diagonal()
    if int(failed) != 0 or float(diagonal.min()) * MAX_CONDITION < float(diagonal.max()):
        return None
    return triangle


def _by_product(terms: Sequence[Term], rule: RankRule) -> Truncated | None:
    """As truncate_sum, from the product (m, n): with ranks of R in all it takes 2 m n R steps, the Gram matrices of the
    stacked factors (m + n) R^2 and QR more."""
    up, down, _ = terms[0]
    whole = torch.zeros(up.shape[0], down.shape[1], dtype=torch.float64, device=up.device)
    for up, down, gain in terms:
        whole.addmm_(up.double(), down.double(), alpha=gain)
    _require_finite(float(whole.sum()))
    if whole.shape[0] <= whole.shape[1]:
        return _balanced(whole, rule)
    flipped = _balanced(whole.mT, rule)
    return flipped and Truncated(flipped.down.mT, flipped.up.mT, flipped.kept, flipped.total)


def _by_qr(up: Tensor, down: Tensor, rule: RankRule) -> Truncated | None:
    """As truncate_sum, of one product, for factors of any condition, at about twice the time."""
    p, x = torch.linalg.qr(up)
    q, y = torch.linalg.qr(down.mT)
    core = _balanced(x @ y.mT, rule)
    return None if core is None else Truncated(p @ core.up, core.down @ q.mT, core.kept, core.total)


def _balanced(core: Tensor, rule: RankRule) -> Truncated | None:
    """The best approximation of a core (a, b) of the rule's rank; decomposed on the CPU, where small matrices are the
    fastest. None when it is zero."""
    device, core = core.device, core.cpu()
    best = _by_eigenvectors(core, rule) or _by_svd(core, rule)
    return best and Truncated(best.up.to(device), best.down.to(device), best.kept, best.total)


def _by_eigenvectors(core: Tensor, rule: RankRule) -> Truncated | None:
    """As _by_svd in half the time, from the eigenvectors of core core^T, which know the squares of the singular values
    only to the rounding of the largest. None where what is kept, or what is cut off, is too near to that."""
    squares, vectors = torch.linalg.eigh(core @ core.mT)
    values = squares.flip(0).clamp_min(0).sqrt()
    if float(values[0]) == 0.0:
        return None
    k = rule(values)
    cut_off = float(torch.linalg.vector_norm(values[k:])) if k < min(core.shape) else float("inf")
    if min(float(values[k - 1]), cut_off) < MIN_RATIO_FOR_EIGH * float(values[0]):
        return None
    left, root = vectors.flip(1)[:, :k], values[:k].sqrt()
    return Truncated(left * root, (core.mT @ (left / root)).mT, _energy(values[:k]), _energy(values))


def _by_svd(core: Tensor, rule: RankRule) -> Truncated | None:
    u, values, vh = torch.linalg.svd(core, full_matrices=False)
    if float(values[0]) == 0.0:
        return None
    real = values[values > values[0] * RTOL_EXACT]
    k = rule(real)
    root = real[:k].sqrt()
    return Truncated(u[:, :k] * root, vh[:k] * root[:, None], _energy(values[:k]), _energy(values))


def _require_finite(norm: float) -> None:
    """Raise OverflowError if a norm is NaN or Inf: the numbers behind it overflowed where they were computed."""
    if not math.isfinite(norm):
        raise OverflowError("numbers too large for float32")


def _inner_products(columns: Tensor) -> Tensor:
    """columns^T @ columns of a matrix (m, R): of the symmetric result little more than half is computed."""
    count = columns.shape[1]
    products = columns.new_empty(count, count)
    for start in range(0, count, GRAM_COLUMNS):
        stop = min(count, start + GRAM_COLUMNS)
        torch.mm(columns[:, start:stop].mT, columns[:, start:], out=products[start:stop, start:])
        products[stop:, start:stop] = products[start:stop, stop:].mT
    return products


def _energy(values: Tensor) -> float:
    return float(values.double().square().sum())


def row_blocks(rows: int, columns: int, device: torch.device = CPU_DEVICE) -> Iterator[tuple[int, int]]:
    """The bounds of the blocks of rows that a dense delta is worked in, the same for each pass."""
    step = max(1, (BLOCK_ELEMENTS if device.type == "cpu" else GPU_BLOCK_ELEMENTS) // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def truncate_dense(
    dense: Tensor, rank: int, start: Tensor, noise: Tensor, check: CancelCheck, total: float | None = None
) -> Truncated | None:
    """The best approximation of a dense (m, n) matrix of a rank, within 1 % of the least possible error.

    Subspace iteration (Halko, Martinsson, Tropp, arXiv 0909.4061) from ``start`` (m, j), a guess at the dominant left
    subspace, and random columns ``noise`` (m, p). It ends when a further iteration gains next to nothing; the error of
    a projection is known exactly, ||D||^2 - ||Q^T D||^2. Where the subspace would be a large part of the matrix, or
    it does not settle, the eigenvectors of the smaller Gram matrix in float64 take its place. None when all is zero.
    Raises OverflowError if it holds NaN or Inf.
    ``total`` is ||D||^2 where it is known already.
    """
    m, n = dense.shape
    total = _squared_norm(dense) if total is None else total
    _require_finite(total)
    if total == 0.0:
        return None
    rank = min(rank, m, n)
    width = start.shape[1] + noise.shape[1]
    if 3 * width >= min(m, n):
        return _exact(dense, fixed_rank(rank), total, check)
    captured = gain = last_gain = 0.0
    basis = orthonormal(torch.cat([start, noise], 1))
    for _ in range(MAX_ITERATIONS):
        check()
        image = dense.mT @ basis
        squares, vectors = torch.linalg.eigh(_gram(image.mT))
        kept = float(squares[-rank:].sum())
        gain, last_gain = (kept - captured if captured else 0.0), gain
        if captured and _still_to_gain(gain, last_gain) <= SETTLED * max(total - kept, RTOL_DENSE * total):
            if total - kept < PRECISE * total:
                return _project(dense, basis, fixed_rank(rank), total, check)
            return _from_gram(basis, image, squares[-rank:], vectors[:, -rank:], total)
        captured = kept
        check()
        # only its directions count: at length 1 nothing over- or underflows
        basis = orthonormal(dense @ (image / max(float(torch.linalg.vector_norm(image)), SMALLEST_FLOAT)))
    return _exact(dense, fixed_rank(rank), total, check)


# Iterations before the exact way takes over, and what may be left to gain as a share of the remaining squared error:
# what is really left was at most twice what the gains promise, on masked, flat and falling spectra, so 0.5 % of error.
MAX_ITERATIONS = 16
SETTLED = 5e-3
# Below this share of the squared norm left over, the rounding of float32 products is no longer small beside it.
PRECISE = 1e-5


def _still_to_gain(gain: float, last_gain: float) -> float:
    """What further iterations will gain, if each gains the same share of what the one before it gained."""
    ratio = min(gain / last_gain, 0.99) if last_gain > 0 else 0.99
    return max(0.0, gain) * ratio / (1 - ratio)


def truncate_dense_by(dense: Tensor, rule: RankRule, check: CancelCheck) -> Truncated | None:
    """The best approximation of a dense matrix of the rank that a rule picks from all its singular values.

    None when all is zero. Raises OverflowError if it holds NaN or Inf.
    """
    total = _squared_norm(dense)
    _require_finite(total)
    return None if total == 0.0 else _exact(dense, rule, total, check)


def _exact(dense: Tensor, rule: RankRule, total: float, check: CancelCheck) -> Truncated:
    """The best approximation from all eigenvectors of the smaller Gram matrix: accurate to float64's rounding."""
    if dense.shape[0] > dense.shape[1]:
        flipped = _exact(dense.mT, rule, total, check)
        return Truncated(flipped.down.mT, flipped.up.mT, flipped.kept, flipped.total)
    check()
    gram = _gram(dense, check)
    check()
    squares, vectors = torch.linalg.eigh(gram)
    check()
    # the Gram matrix knows the largest singular values well; those near its rounding are measured again
    squares = squares.flip(0).clamp_min(0)
    wanted = rule(squares[squares > squares[0] * RTOL_DENSE**2].sqrt())
    directions = vectors.flip(1)[:, :wanted].to(float64_device(dense.device))
    return _project(dense, directions, rule, total, check)


def _project(dense: Tensor, directions: Tensor, rule: RankRule, total: float, check: CancelCheck) -> Truncated:
    """The best approximation by a rule inside the span of columns on the left (m, l), in float64."""
    basis = orthonormal(in_float64(directions))
    inner = torch.zeros(basis.shape[1], dense.shape[1], dtype=torch.float64, device=basis.device)
    for start, stop in row_blocks(dense.shape[0], dense.shape[1], dense.device):
        check()
        inner.addmm_(basis[start:stop].mT, in_float64(dense[start:stop]))
    return _inside(basis, inner.mT, rule, total)


def _inside(basis: Tensor, image: Tensor, rule: RankRule, total: float) -> Truncated:
    """The best approximation by a rule of basis (m, l) @ image^T (l, n), both in float64, the basis orthonormal.

    Returns float32 factors.
    """
    q, r = torch.linalg.qr(image)
    u, values, vh = torch.linalg.svd(r.mT.cpu(), full_matrices=False)
    k = rule(values[values > values[0] * RTOL_DENSE])
    root = values[:k].sqrt()
    up, down = basis @ (u[:, :k] * root).to(q.device), (vh[:k] * root[:, None]).to(q.device) @ q.mT
    return Truncated(up.float(), down.float(), _energy(values[:k]), total)


def _from_gram(basis: Tensor, image: Tensor, squares: Tensor, vectors: Tensor, total: float) -> Truncated:
    """The best approximation of basis (m, l) @ image^T (l, n) from the largest eigenvalues (k) of image^T @ image and
    their eigenvectors (l, k); float32 factors."""
    real = squares > squares[-1] * RTOL_DENSE**2
    vectors, root = vectors[:, real].flip(1), squares[real].flip(0).sqrt().sqrt()
    device = float64_device(basis.device)
    left, right = (vectors * root).to(device), (vectors / root).to(device)
    up, down = in_float64(basis) @ left, right.mT @ in_float64(image).mT
    return Truncated(up.float(), down.float(), float(squares[real].sum()), total)


def _gram(wide: Tensor, check: CancelCheck = no_cancel) -> Tensor:
    """wide @ wide^T in float64, by blocks of columns; on the CPU, where small matrices are decomposed the fastest."""
    gram = torch.zeros(wide.shape[0], wide.shape[0], dtype=torch.float64, device=float64_device(wide.device))
    for start, stop in row_blocks(wide.shape[1], wide.shape[0], wide.device):
        check()
        block = in_float64(wide[:, start:stop])
        gram.addmm_(block, block.mT)
    return gram.cpu()


def squared_norm(block: Tensor) -> float:
    """The sum of the squares of a float32 matrix (m, n); NaN or Inf if an element is.

    Summed in float64, since squares of numbers near float32's limits exceed it. On a device without float64 each row is
    scaled and summed in float32, because moving the block to the CPU would cost more than the sum.
    """
    if float64_device(block.device) == block.device:
        numbers = block.to(torch.float64).reshape(-1)
        return float(torch.dot(numbers, numbers))
    most = float(block.abs().max())
    if most == 0.0 or not math.isfinite(most):
        return most
    rows = (block / most).square().sum(1)
    return float(rows.cpu().to(torch.float64).sum()) * most * most


def _squared_norm(dense: Tensor) -> float:
    """The same without a copy of the whole."""
    blocks = row_blocks(dense.shape[0], dense.shape[1], dense.device)
    return sum(squared_norm(dense[start:stop]) for start, stop in blocks)
