"""Modes that look into the LoRAs' input and output directions, from their definitions on dense deltas.

Strengths are inside the deltas, of which there are at least two and none is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .canonical import RANK_OF_A_STACK, Array, canonical, joint_bases, norm, polar, span
from .elections import elected_sum, ties

# (position of the LoRA in the list of deltas, shape) -> numbers uniform in [0, 1)
Draw = Callable[[int, tuple[int, ...]], Array]


def null_space_projection(deltas: Sequence[Array], mu: float) -> Array:
    """np_svd, NP-LoRA (arXiv 2511.11051): each LoRA loses mu / (1 + mu) of what it reads from earlier LoRAs' inputs.

    An infinite mu, here 1000, takes all of it away.
    """
    taken = 1.0 if mu >= 1000 else mu / (1 + mu)
    total = deltas[0].copy()
    for t in range(1, len(deltas)):
        directions = span(np.hstack([canonical(delta).a.T for delta in deltas[:t]]))
        total += deltas[t] @ (np.eye(deltas[t].shape[1]) - taken * directions @ directions.T)
    return total


def task_singular_vectors(deltas: Sequence[Array]) -> Array:
    """tsv_svd, TSV-Merge (arXiv 2412.00081): all singular vectors side by side, replaced by the nearest isometry.

    Each LoRA brings as many as its rank.
    """
    parts = [canonical(delta) for delta in deltas]
    u = polar(np.hstack([part.u for part in parts]))
    v = polar(np.hstack([part.v for part in parts]))
    return u @ np.diag(np.concatenate([part.s for part in parts])) @ v.T


def knots_ties(deltas: Sequence[Array], density: float) -> Array:
    """knots_ties_svd, KnOTS (arXiv 2410.19735): [D_1 .. D_T] = U S [V_1 .. V_T]^T; TIES on the blocks S V_t^T."""
    u, s, vt = np.linalg.svd(np.hstack(deltas), full_matrices=False)
    counts = s > RANK_OF_A_STACK * s[0]
    aligned = np.diag(s[counts]) @ vt[counts]
    return u[:, counts] @ ties(np.split(aligned, len(deltas), axis=1), density)


def core_ties(deltas: Sequence[Array], density: float) -> Array:
    """core_ties_svd, Core Space (arXiv 2509.17786): TIES on the cores Q_B^T D_t Q_A, its entries counted there."""
    q_b, q_a = joint_bases(deltas)
    return q_b @ ties([q_b.T @ delta @ q_a for delta in deltas], density) @ q_a.T


def core_dare_ties(deltas: Sequence[Array], density: float, draw: Draw) -> Array:
    """core_dare_ties_svd: DARE (arXiv 2311.03099) on the cores, kept where the draw is below the density."""
    q_b, q_a = joint_bases(deltas)
    sparse = []
    for t, delta in enumerate(deltas):
        core = q_b.T @ delta @ q_a
        kept = np.where(draw(t, core.shape) < density, core, 0.0)
        sparse.append(kept / density if density > 0 else kept)
    return q_b @ elected_sum(sparse) @ q_a.T


def isotropic(deltas: Sequence[Array], blend: float) -> Array:
    """iso_svd, Iso-C (arXiv 2502.04959) among the sum's nonzero singular values, blended, at the sum's norm."""
    total = np.sum(deltas, axis=0)
    if norm(total) < 1e-6 * np.sqrt(sum(norm(delta) ** 2 for delta in deltas)):
        return total
    u, s, vt = np.linalg.svd(total, full_matrices=False)
    counts = s > RANK_OF_A_STACK * s[0]
    s = s[counts]
    flattened = (1 - blend) * s + blend * np.mean(s)
    return u[:, counts] @ np.diag(flattened * norm(s) / norm(flattened)) @ vt[counts]


def route(deltas: Sequence[Array], ridge: float) -> Array:
    """route_svd, RegMean (arXiv 2212.09849) with every LoRA's inputs isotropic in its row space.

    (sum_t D_t P_t) (sum_t P_t)^+ where P_t projects on the row space of D_t. The ridge, relative to the mean eigenvalue
    within the joint row space, stands in for the pseudo-inverse.
    """
    rows = [canonical(delta).v for delta in deltas]
    covered = np.sum([v @ v.T for v in rows], axis=0)
    total = np.sum([delta @ v @ v.T for delta, v in zip(deltas, rows, strict=True)], axis=0)
    if ridge == 0:
        return total @ np.linalg.pinv(covered, rcond=RANK_OF_A_STACK, hermitian=True)
    directions = joint_bases(deltas)[1].shape[1]
    return total @ np.linalg.inv(covered + ridge * np.trace(covered) / directions * np.eye(len(covered)))
