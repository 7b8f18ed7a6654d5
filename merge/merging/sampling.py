"""Choosing some of the weights of a merge, for numbers that may be estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .matching import WeightGroup

_GOLDEN = (math.sqrt(5) - 1) / 2


def evenly_spread(groups: Sequence[WeightGroup], share: float) -> list[WeightGroup]:
    """About this share of the groups, in their order; all of them from 1 on."""
    # by the golden ratio: a fixed step could choose the same projection in every block
    return [group for n, group in enumerate(groups) if (n * _GOLDEN) % 1 < share]
