"""Modes that decide entry by entry of the dense delta."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lora_pack.tests.support.oracle import disjoint_mean

from .elections import by_falling, count, elected_signs
from .subspaces import Array, Draw


def della(
    deltas: Sequence[Array], strengths: Sequence[float], density: float, epsilon: float, draw: Draw | None
) -> Array:
    """della_svd, DELLA (arXiv 2406.11617), section 3.1, then the elected mean of dare_ties_svd.

    The deltas are at strength 1: strengths don't vote, they weigh what was elected.
    """
    sparse = []
    for t, delta in enumerate(deltas):
        p = keep_probabilities(delta, density, epsilon)
        if draw is None and not np.all(p == 1):
            raise ValueError("della needs a draw, unless it keeps everything")
        u = np.zeros(delta.shape) if draw is None else draw(t, delta.shape)
        sparse.append(np.where(u < p, delta / np.where(p > 0, p, 1.0), 0.0))
    return disjoint_mean(sparse, strengths)


def keep_probabilities(delta: Array, density: float, epsilon: float) -> Array:
    """From density - epsilon for the smallest magnitude of a row to density + epsilon for its largest."""
    epsilon = min(epsilon, density, 1 - density)
    rows, n = delta.shape
    p = np.full((rows, n), density)
    for i in range(rows):
        for place, j in enumerate(by_falling(np.abs(delta[i]))):  # place 0: the largest
            if n > 1:
                p[i, j] = density - epsilon + 2 * epsilon * (n - 1 - place) / (n - 1)
    return p


def breadcrumbs(deltas: Sequence[Array], density: float, gamma: float) -> Array:
    """breadcrumbs_svd (arXiv 2312.06795): drop the largest and the smallest magnitudes of each, then sum."""
    total = np.zeros(deltas[0].shape)
    for delta in deltas:
        order = by_falling(np.abs(delta))
        skipped = count(min(gamma, 1 - density), delta.size)
        kept = order[skipped : skipped + count(density, delta.size)]
        total.ravel()[kept] += delta.ravel()[kept]
    return total


def sce(deltas: Sequence[Array], density: float) -> Array:
    """sce_svd, FuseChat 3's SCE (arXiv 2408.07990): select by variance, weigh by energy, erase the minority's sign.

    One LoRA alone has no variance: its largest magnitudes are selected.
    """
    spread = np.var(deltas, axis=0) if len(deltas) > 1 else np.abs(deltas[0])
    selected = np.zeros(spread.size)
    selected[by_falling(spread)[: count(density, spread.size)]] = 1
    kept = [delta * selected.reshape(spread.shape) for delta in deltas]
    energy = [float(np.mean(np.square(delta))) for delta in kept]
    elected = elected_signs(kept)
    above, below = np.zeros(spread.shape), np.zeros(spread.shape)
    for weight, delta in zip(energy, kept, strict=True):
        agrees = np.sign(delta) == elected
        above += np.where(agrees, weight * delta, 0.0)
        below += np.where(agrees, weight, 0.0)
    return np.divide(above, below, out=np.zeros(spread.shape), where=below > 0)
