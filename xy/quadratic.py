"""A quadratic surface through noisy scores, and whether one of its points is higher than another beyond doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RIDGE = 1e-3  # on the quadratic terms, where the points don't determine them


@dataclass(frozen=True)
class Observations:
    """Scores (n,) at coordinates (n, d), each with one of several seeds (n,), counted from 0."""

    at: np.ndarray
    seeds: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Quadratic:
    """c + g.(x - centre) + (x - centre)' H (x - centre), with the covariance of its coefficients and the degrees of
    freedom of that."""

    centre: np.ndarray
    coefficients: np.ndarray
    covariance: np.ndarray
    freedom: float

    def at(self, points: np.ndarray) -> np.ndarray:
        """Heights (n,) at coordinates (n, d)."""
        return _terms(points - self.centre) @ self.coefficients

    def is_higher(self, point: np.ndarray, than: np.ndarray, confidence: float) -> bool:
        """Whether the surface is higher at one place (d,) than at another, by Scheffé's method.

        It holds for the highest of all places too, which is high by luck to some degree. Source: Scheffé, A method for
        judging all contrasts in the analysis of variance (1953).
        """
        if self.freedom < 1:
            return False
        # imported here: it takes seconds, and most plots don't need it
        from scipy.stats import f

        contrast = (_terms(point[None] - self.centre) - _terms(than[None] - self.centre))[0]
        terms = len(self.coefficients) - 1  # the constant is no part of a difference
        error = math.sqrt(max(0.0, float(contrast @ self.covariance @ contrast)))
        least = error * math.sqrt(terms * float(f.ppf(confidence, terms, self.freedom)))
        return float(contrast @ self.coefficients) > max(least, 1e-9)


def fit(seen: Observations, centre: np.ndarray, radius: float = math.inf) -> Quadratic:
    """Least squares, in which points within the radius of the centre (d,) count most.

    Each seed has an offset of its own: what it adds to every score is no property of the point.
    """
    terms = _terms(seen.at - centre)
    offsets = np.eye(int(seen.seeds.max()) + 1)[seen.seeds][:, 1:]
    columns = terms.shape[1]
    matrix = np.concatenate([terms, offsets], axis=1)
    weights = np.exp(-((seen.at - centre) ** 2).sum(axis=1) / (2 * radius) ** 2)
    ridge = np.diag([0.0, *[RIDGE] * (columns - 1), *[0.0] * offsets.shape[1]])
    inverse = np.linalg.pinv(matrix.T @ (matrix * weights[:, None]) + ridge)
    found = inverse @ matrix.T @ (weights * seen.scores)
    freedom = float(weights.sum()) - matrix.shape[1]
    variance = float((weights * (seen.scores - matrix @ found) ** 2).sum()) / max(1.0, freedom)
    spread = variance * inverse @ (matrix.T @ (matrix * weights[:, None] ** 2)) @ inverse
    return Quadratic(centre, found[:columns], spread[:columns, :columns], freedom)


def _terms(x: np.ndarray) -> np.ndarray:
    """1, x_i, x_i x_j for i <= j: (n, 1 + d + d (d + 1) / 2)."""
    first, second = np.triu_indices(x.shape[1])
    return np.concatenate([np.ones((len(x), 1)), x, x[:, first] * x[:, second]], axis=1)
