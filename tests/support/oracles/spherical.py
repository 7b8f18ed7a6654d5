"""karcher_svd from its definition on dense deltas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .canonical import Array, norm

NO_DIRECTION = 1e-6  # length of the weighted mean of unit deltas below which it has no direction


def karcher(deltas: Sequence[Array], strengths: Sequence[float]) -> Array:
    """The weighted Karcher mean of the unit deltas on the sphere, times the mean of the deltas' norms.

    The mean is the point x where the logarithms of the units u_t at x, weighted by |strength|, sum to 0 (Karcher 1977;
    the iteration: gradient steps of length 1 from the normalised weighted sum). A negative strength is inside its
    delta, so it turns u_t round. Of two it is SLERP. If the weighted sum of the units has no direction, the plain sum.
    """
    norms = [norm(delta) for delta in deltas]
    units = [delta / size for delta, size in zip(deltas, norms, strict=True)]
    weights = [abs(strength) / sum(abs(w) for w in strengths) for strength in strengths]
    x = np.sum([a * u for a, u in zip(weights, units, strict=True)], axis=0)
    if norm(x) < NO_DIRECTION:
        return np.sum(deltas, axis=0)
    x = x / norm(x)
    for _ in range(50):
        step = np.sum([a * logarithm(x, u) for a, u in zip(weights, units, strict=True)], axis=0)
        length = norm(step)
        if length < 1e-10:
            break
        x = math.cos(length) * x + math.sin(length) * step / length
        x = x / norm(x)
    return float(np.mean(norms)) * x


def logarithm(x: Array, u: Array) -> Array:
    """The tangent at x that points to u along the great circle, as long as their angle; zero if u is opposite to x."""
    cosine = min(1.0, max(-1.0, float(np.sum(x * u))))
    angle = math.acos(cosine)
    if angle > math.pi - 1e-6:
        return np.zeros_like(x)
    return (angle / math.sin(angle) if angle > 1e-12 else 1.0) * (u - cosine * x)
