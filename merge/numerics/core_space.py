"""Several low-rank deltas in common orthonormal bases, which don't depend on how their factors were trained.

The SVD of each delta is D_t = U_t S_t V_t^T. The stacks [U_1 sqrt(S_1), U_2 sqrt(S_2), ...] and the same of V have the
left singular vectors Q_B (m, a) and Q_A (n, b), and the cores M_t = Q_B^T D_t Q_A hold everything: D_t = Q_B M_t Q_A^T.
The weights sqrt(S) matter: the stacked U_t of unrelated LoRAs alone have singular values that are all near 1, and so
no determined singular vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .orthonormal_bases import OrthonormalBases, orthonormal_bases
from .stacking import Term
from .truncated import Truncated

# Singular values of a delta below this share of its largest are rounding.
RTOL_DELTA = 1e-12
# The methods that use a core count all directions of a delta alike, also the weakest; so these must be accurate, to
# 1e-10 of the largest.
MAX_CONDITION = 1e3
# A delta below this share of its factors' norms is the rounding of zero.
RTOL_ZERO = 1e-15
# Directions of a stack below this share of its largest singular value are left out: they are those in which LoRAs that
# are equal, or nearly so, differ by rounding.
RTOL_STACK = 1e-6


@dataclass(frozen=True, eq=False)
class CoreDelta:
    """A delta in the bases of its CoreSpace: u (a, r), s (r), v (b, r), and which of the terms it is."""

    term: int
    u: Tensor
    s: Tensor
    v: Tensor

    @property
    def core(self) -> Tensor:
        """M_t (a, b)."""
        return (self.u * self.s) @ self.v.mT


@dataclass(frozen=True, eq=False)
class CoreSpace:
    """The deltas of one weight that aren't zero, in common bases. The cores are float64, on the CPU."""

    deltas: Sequence[CoreDelta]
    bases: OrthonormalBases
    # Q_B and Q_A in the coordinates of ``bases``
    left: Tensor
    right: Tensor

    def sum(self) -> Tensor:
        """The core (a, b) of the sum of the deltas."""
        return torch.stack([delta.core for delta in self.deltas]).sum(0)

    def left_basis(self) -> Tensor:
        """Q_B (m, a)."""
        return self.bases.from_left(self.left.to(self.bases.left.device)).cpu()

    def right_basis(self) -> Tensor:
        """Q_A^T (b, n)."""
        return self.bases.from_right(self.right.mT.to(self.bases.right.device)).cpu()

    def signs(self) -> Tensor:
        """What to multiply a core (a, b) by so that the entry of largest magnitude of each basis vector is positive.

        Basis vectors have no sign of their own, which matters to elections that end in a draw.
        """
        return _signs(self.left_basis())[:, None] * _signs(self.right_basis().mT)

    def expand(self, core: Truncated, keeps_columns: bool = False) -> Truncated:
        """A truncated core (a, b) as a delta (m, n); with ``keeps_columns``, the core is (a, n) already."""
        device = self.bases.left.device
        up = self.bases.from_left((self.left @ core.up).to(device))
        if keeps_columns:
            return Truncated(up, core.down.to(device), core.kept, core.total)
        down = self.bases.from_right((core.down @ self.right.mT).to(device))
        return Truncated(up, down, core.kept, core.total)


def core_space(terms: Sequence[Term]) -> CoreSpace | None:
    """The deltas weight * up @ down of the terms in common bases; None where all of them are zero.

    The factors may have any precision, on a device with float64. Raises OverflowError if a factor holds NaN or Inf.
    """
    bases = orthonormal_bases(terms, MAX_CONDITION)
    if bases is None:
        return None
    found = [_canonical(bases, term) for term in range(len(terms))]
    deltas = [delta for delta in found if delta is not None]
    if not deltas:
        return None
    left = left_singular_vectors(torch.cat([delta.u * delta.s.sqrt() for delta in deltas], 1))
    right = left_singular_vectors(torch.cat([delta.v * delta.s.sqrt() for delta in deltas], 1))
    in_core = [CoreDelta(delta.term, left.mT @ delta.u, delta.s, right.mT @ delta.v) for delta in deltas]
    return CoreSpace(in_core, bases, left, right)


def left_singular_vectors(stack: Tensor) -> Tensor:
    """The left singular vectors (a, k) of a stack (a, R), largest first, without those of negligible singular values.

    From the eigenvectors of stack @ stack^T, which see singular values down to 1e-8 of the largest.
    """
    squares, vectors = torch.linalg.eigh(stack @ stack.mT)
    return vectors[:, squares > RTOL_STACK**2 * squares[-1]].flip(1)


def _canonical(bases: OrthonormalBases, term: int) -> CoreDelta | None:
    """The SVD of one term in the bases of all; None where the term is zero."""
    mine = bases.term_of == term
    if not bool(mine.any()):
        return None
    x, y = bases.left[:, mine].cpu(), bases.right[mine].cpu()
    p, left = torch.linalg.qr(x)
    q, right = torch.linalg.qr(y.mT)
    u, s, vh = torch.linalg.svd(left @ right.mT, full_matrices=False)
    # factors that aren't zero may still have a product that is
    if float(s[0]) <= RTOL_ZERO * float(torch.linalg.vector_norm(x) * torch.linalg.vector_norm(y)):
        return None
    kept = s > RTOL_DELTA * s[0]
    return CoreDelta(term, p @ u[:, kept], s[kept], q @ vh[kept].mT)


def _signs(basis: Tensor) -> Tensor:
    """1 or -1 for each column (m, k) -> (k)."""
    return torch.where(-basis.amin(0) > basis.amax(0), -1.0, 1.0).to(basis.dtype)
