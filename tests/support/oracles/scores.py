"""The score of a picture, in plain float64: projections by least squares instead of bases."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def score(picture: Array, none: Array | list[Array], alone: Sequence[Array | list[Array]]) -> float:
    """The harmonic mean of the clipped p_t, minus 0.5 |rest| / max |e_t - e_0|; all embeddings of any length.

    A list of embeddings counts as the mean of its members at unit length.
    """
    e, e_0 = _average(picture), _average(none)
    effects = [_average(one) - e_0 for one in alone]
    moved = e - e_0
    p = [min(1.0, max(0.0, float(np.dot(moved, effect) / np.dot(effect, effect)))) for effect in effects]
    columns = np.stack(effects, axis=1)
    solution = np.linalg.lstsq(columns, moved, rcond=1e-6)[0]
    rest = moved - columns @ solution
    longest = max(np.sqrt(np.dot(effect, effect)) for effect in effects)
    return statistics.harmonic_mean(p) - 0.5 * float(np.sqrt(np.dot(rest, rest))) / float(longest)


def _average(embeddings: Array | list[Array]) -> Array:
    several = embeddings if isinstance(embeddings, list) else [embeddings]
    return np.mean([one / np.sqrt(np.dot(one, one)) for one in several], axis=0)
