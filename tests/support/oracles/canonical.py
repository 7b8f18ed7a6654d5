"""Parts of a dense delta that don't depend on how its factors were trained: its own SVD, joint bases, cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

RANK_OF_A_DELTA = 1e-12  # singular values of one delta, relative to its largest, that count
RANK_OF_A_STACK = 1e-6  # those of several LoRAs' directions side by side


@dataclass(frozen=True)
class Canonical:
    """delta = u @ diag(s) @ v.T with s > 0: u (out, r), s (r,), v (in, r)."""

    u: Array
    s: Array
    v: Array

    @property
    def b(self) -> Array:
        return self.u * np.sqrt(self.s)

    @property
    def a(self) -> Array:
        return (self.v * np.sqrt(self.s)).T


def canonical(delta: Array) -> Canonical:
    """The SVD of a dense delta without the singular values that are rounding."""
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    r = int(np.sum(s > RANK_OF_A_DELTA * s[0])) if s.size and s[0] > 0 else 0
    return Canonical(u[:, :r], s[:r], vt[:r].T)


def span(stack: Array) -> Array:
    """Left singular vectors of a stack of columns, in falling order, each with its largest entry positive."""
    vectors, values, _ = np.linalg.svd(stack, full_matrices=False)
    vectors = vectors[:, values > RANK_OF_A_STACK * values[0]]
    for j in range(vectors.shape[1]):
        if vectors[np.argmax(np.abs(vectors[:, j])), j] < 0:
            vectors[:, j] = -vectors[:, j]
    return vectors


def joint_bases(deltas: Sequence[Array]) -> tuple[Array, Array]:
    """Q_B (out, R_B) and Q_A (in, R_A): orthonormal bases of what all deltas write to and read from.

    From the stacks of b_t = u_t sqrt(s_t) and a_t^T = v_t sqrt(s_t), as in Core Space (arXiv 2509.17786) but with
    canonical factors, so that the result doesn't depend on the LoRAs' own factors.
    """
    parts = [canonical(delta) for delta in deltas]
    return span(np.hstack([part.b for part in parts])), span(np.hstack([part.a.T for part in parts]))


def polar(stack: Array) -> Array:
    """The nearest partial isometry: the stack's SVD with every singular value that counts set to 1."""
    u, s, vt = np.linalg.svd(stack, full_matrices=False)
    counts = s > RANK_OF_A_STACK * s[0]
    return u[:, counts] @ vt[counts]


def norm(x: Array) -> float:
    return float(np.sqrt(np.sum(np.square(x))))
