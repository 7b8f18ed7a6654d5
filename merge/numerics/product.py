"""Exact measures of low-rank products from the Gram matrices of their factors, in float64.

For a product D = up @ down with the Gram matrices K = up^T up and L = down down^T, all (r, r): write K = H H^T. Then
the squared singular values of D are the eigenvalues of H^T L H, and up @ H^+T has orthonormal columns that span the
output directions of D. Nothing larger than (r, r) is decomposed, and D is never formed.

Squaring leaves singular values below about 1e-8 of the largest to rounding, and a product whose terms cancel would lose
as many digits again: ``product_of`` replaces such factors by those of an SVD.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .conditioning import MAX_CANCELLATION
from .rank_rules import fixed_rank
from .spectrum import numerical_rank
from .sum_svd import truncate_sum

# Smallest ratio between the numbers on a Cholesky factor's diagonal for which it is used instead of eigenvectors.
MIN_DIAGONAL_RATIO = 1e-5
# Eigenvalues of a Gram matrix below this share of the largest are rounding.
RTOL_GRAM = 1e-13


@dataclass(frozen=True, eq=False)
class Product:
    """The matrix up (m, r) @ down (r, n), in float64 on the CPU.

    ``up_gram`` and ``down_gram`` (r, r) are the Gram matrices of ``up * scale`` and ``down / scale[:, None]``, whose
    columns and rows are equally long; ``scale`` is (r,).
    """

    up: Tensor
    down: Tensor
    scale: Tensor
    up_gram: Tensor
    down_gram: Tensor

    @cached_property
    def energy(self) -> float:
        """The squared Frobenius norm."""
        return max(0.0, float((self.up_gram * self.down_gram).sum()))

    @cached_property
    def energies(self) -> Tensor:
        """The squared singular values, descending: r of them, of which those beyond the rank are zero."""
        root, _ = self.up_root
        return torch.linalg.eigvalsh(root.mT @ self.down_gram @ root).flip(0).clamp_min(0)

    @cached_property
    def up_root(self) -> tuple[Tensor, Tensor]:
        return _root(self.up_gram)

    @cached_property
    def down_root(self) -> tuple[Tensor, Tensor]:
        return _root(self.down_gram)

    @cached_property
    def rank(self) -> int:
        """The numerical rank."""
        return numerical_rank(self.energies)

    def rows(self, indices: Tensor) -> Tensor:
        """These rows of the matrix."""
        return self.up[indices] @ self.down


def product_of(up: Tensor, down: Tensor) -> Product:
    """The product of two factors of any precision, up (m, r) and down (r, n), on the CPU."""
    up, down = (factor.float().double() if factor.dtype.itemsize < 4 else factor.double() for factor in (up, down))
    up_gram, down_gram = up.mT @ up, down @ down.mT
    terms = float((up_gram.diagonal() * down_gram.diagonal()).sum())
    if terms > MAX_CANCELLATION**2 * float((up_gram * down_gram).sum()):
        best = truncate_sum([(up, down, 1.0)], fixed_rank(up.shape[1]))
        up, down = (up[:, :0], down[:0]) if best is None else (best.up, best.down)
        up_gram, down_gram = up.mT @ up, down @ down.mT
    up_norms, down_norms = up_gram.diagonal().sqrt(), down_gram.diagonal().sqrt()
    used = (up_norms > 0) & (down_norms > 0)
    if not bool(used.all()):
        up, down, up_norms, down_norms = up[:, used], down[used], up_norms[used], down_norms[used]
        up_gram, down_gram = up_gram[used][:, used], down_gram[used][:, used]
    scale = (down_norms / up_norms).sqrt()
    outer = scale * scale[:, None]
    return Product(up, down, scale, up_gram * outer, down_gram / outer)


@dataclass(frozen=True)
class Inside:
    """The shares of a product's energy inside another one's input and output directions, and how many these are.

    A product's directions are its row and its column space at its numerical rank.
    """

    input: float
    output: float
    rank: int


@dataclass(frozen=True)
class Comparison:
    """The inner product of two products; ``inside``: the second in the first's directions, ``around``: the reverse."""

    inner: float
    inside: Inside
    around: Inside


def compare(first: Product, second: Product) -> Comparison:
    """Compare two products of one shape, both with some energy."""
    scales = first.scale[:, None] * second.scale
    of_ups = (first.up.mT @ second.up) * scales
    of_downs = (first.down @ second.down.mT) / scales
    return Comparison(
        float((of_ups * of_downs).sum()),
        _inside(first, second, of_ups, of_downs),
        _inside(second, first, of_ups.mT, of_downs.mT),
    )


def _inside(outer: Product, inner: Product, of_ups: Tensor, of_downs: Tensor) -> Inside:
    """The share of ``inner`` in the directions of ``outer``, from the inner products of their ups and their downs."""
    inputs = _directions(outer.down_root, outer.up_gram, outer.rank)
    outputs = _directions(outer.up_root, outer.down_gram, outer.rank)
    return Inside(
        _energy_inside(inputs @ of_downs, inner.up_gram) / inner.energy,
        _energy_inside(outputs @ of_ups, inner.down_gram) / inner.energy,
        outer.rank,
    )


def _energy_inside(coordinates: Tensor, other_gram: Tensor) -> float:
    """The energy of a product inside directions, in which one of its factors has ``coordinates`` (k, r).

    ``other_gram`` (r, r) is the Gram matrix of its other factor.
    """
    return max(0.0, float((coordinates.mT @ coordinates * other_gram).sum()))


def _directions(root: tuple[Tensor, Tensor], other_gram: Tensor, rank: int) -> Tensor:
    """W (rank, r) such that W @ F has orthonormal rows that span the product's directions on the side of its factor F.

    ``root`` is that of F's Gram matrix and its pseudo-inverse, ``other_gram`` (r, r) the Gram matrix of the other
    factor, ``rank`` the product's numerical rank.
    """
    half, inverse = root
    if rank == half.shape[1]:  # all directions of the factor
        return inverse
    return torch.linalg.eigh(half.mT @ other_gram @ half)[1].flip(1)[:, :rank].mT @ inverse


def _root(gram: Tensor) -> tuple[Tensor, Tensor]:
    """H (r, k) with H @ H^T = gram (r, r), and its pseudo-inverse (k, r); k is the rank of the Gram matrix."""
    root, failed = torch.linalg.cholesky_ex(gram)
    diagonal = root.diagonal()
    if int(failed) == 0 and len(gram) and float(diagonal.min()) >= MIN_DIAGONAL_RATIO * float(diagonal.max()):
        identity = torch.eye(len(gram), dtype=gram.dtype)
        return root, torch.linalg.solve_triangular(root, identity, upper=False)
    values, vectors = torch.linalg.eigh(gram)
    kept = values > RTOL_GRAM * float(values.max()) if len(values) else values > 0
    sizes, vectors = values[kept].sqrt(), vectors[:, kept]
    return vectors * sizes, (vectors / sizes).mT
