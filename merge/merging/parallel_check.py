"""Warns when LoRAs merged by their factors are nearly parallel, as the epochs of one training are.

Adding factors multiplies the LoRAs with each other: (B1 + B2)(A1 + A2) has the cross terms B1 A2 and B2 A1. For
unrelated LoRAs these are noise. For parallel ones they add up, and the result is up to N times the sum of N LoRAs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapters.base import Lora
from ..numerics.gram import delta_gram
from .matching import WeightGroup
from .sampling import evenly_spread

# Cosine of two LoRAs' deltas from which they count as nearly parallel. It is near 0 for unrelated LoRAs, and near 1 for
# late epochs of one training.
NEAR_PARALLEL = 0.7
# If there are more LoRAs, only the first ones are compared.
MOST_COMPARED = 32
# Multiplications to spend for each element of the factors, so that the check takes under 5 % of the merge. A Gram
# matrix takes as many as the ranks add up to, so only some of the weights are compared.
WORK_PER_ELEMENT = 1
# Multiplications to spend in any case, a few milliseconds: all weights of a small merge are compared.
FREE_WORK = 5e7


def _chosen(groups: Sequence[WeightGroup]) -> set[str]:
    """The weights to compare, evenly spread over those that several LoRAs have."""
    shared = [group for group in groups if len(group.contributions) > 1]
    elements = work = 0
    for group in shared:
        ranks = sum(contribution.adapter.rank for contribution in group.contributions)
        shape = group.weight_shape
        elements += (shape[0] + math.prod(shape[1:])) * ranks
        work += (shape[0] + math.prod(shape[1:])) * ranks**2
    share = max(FREE_WORK, WORK_PER_ELEMENT * elements) / max(1, work)
    return {group.weight for group in evenly_spread(shared, share)}


class ParallelCheck:
    """Compares the LoRAs of a merge by factors: call ``add`` for each merged weight, then ``note``."""

    def __init__(self, loras: Sequence[Lora], groups: Sequence[WeightGroup]) -> None:
        self._names = [lora.name for lora in loras]
        self._chosen = _chosen(groups)
        count = min(len(loras), MOST_COMPARED)
        self._inner = torch.zeros(count, count, dtype=torch.float64)
        self._norms = torch.zeros(count, count, dtype=torch.float64)  # of LoRA i where j has the weight too
        self._sum = self._result = 0.0

    def add(self, group: WeightGroup, ups: Sequence[Tensor], downs: Sequence[Tensor], up: Tensor, down: Tensor) -> None:
        """Compare the LoRAs' factors of a weight, merged as ``up`` and ``down``, if the weight is one of the chosen."""
        if group.weight not in self._chosen:
            return
        # contributions are in input order, so the first ones of all LoRAs are the first ones here
        contributions = [one for one in group.contributions if one.input_index <= MOST_COMPARED]
        count = len(contributions)
        if count < 2:
            return
        weights = [contribution.effective_weight for contribution in contributions]
        gram = delta_gram(ups[:count], downs[:count], weights)
        places = torch.tensor([contribution.input_index - 1 for contribution in contributions])
        self._inner[places[:, None], places] += gram
        self._norms[places[:, None], places] += gram.diagonal()[:, None]
        if count == len(group.contributions):
            self._sum += float(gram.sum())
            self._result += float(delta_gram([up], [down], [1.0]))

    def cosines(self) -> Tensor:
        """The cosine of each pair of LoRAs over the compared weights that both have; 0 if there are none. (T, T)"""
        scale = (self._norms * self._norms.mT).sqrt()
        return torch.where(scale > 0, self._inner / scale, 0.0)

    def note(self, mode: str) -> str | None:
        """A warning for the user if two of the LoRAs are nearly parallel."""
        cosines = self.cosines().abs().nan_to_num().triu(1)
        if not len(cosines) or float(cosines.max()) < NEAR_PARALLEL:
            return None
        first, second = divmod(int(cosines.argmax()), len(cosines))
        pair = f"{self._names[first]} and {self._names[second]} are nearly parallel (cosine {cosines.max():.2f})"
        factor = math.sqrt(self._result / self._sum) if self._sum > 0 else 1.0
        strong = f" The result is {factor:.1f} times as strong as the sum." if factor >= 1.05 else ""
        return f"{pair}, so {mode} also adds up their cross terms.{strong} For the true sum use concat or add_svd."
