"""Which entries are kept, and which of the LoRAs count in an entry."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from lora_pack.tests.support.oracle import largest

Array = np.ndarray


def count(fraction: float, n: int) -> int:
    """floor(fraction * n), not one less because of float error."""
    return math.floor(fraction * n + 1e-9)


def by_falling(values: Array) -> Array:
    """Flat positions, the largest value first, of equal ones the first in row order."""
    return np.argsort(-values.ravel(), kind="stable")


def elected_signs(values: Sequence[Array]) -> Array:
    """The sign of the sum of each entry; a sum of 0 elects plus."""
    return np.where(np.sum(values, axis=0) >= 0, 1.0, -1.0)


def elected_sum(values: Sequence[Array]) -> Array:
    """Per entry the sum of the values that have the elected sign."""
    elected = elected_signs(values)
    total = np.zeros(values[0].shape)
    for x in values:
        total += np.where(np.sign(x) == elected, x, 0.0)
    return total


def ties(values: Sequence[Array], density: float) -> Array:
    """Prune each by magnitude, elect, and sum what agrees: without a conflict it is the sum of what was kept."""
    return elected_sum([largest(x, density) for x in values])
