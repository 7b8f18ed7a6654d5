"""Whether LoRAs that are merged on their factors are nearly parallel, as the epochs of one training are.

Adding factors multiplies LoRAs with each other: (B1 + B2)(A1 + A2) has the cross terms B1 A2 and B2 A1. Of unrelated
LoRAs these are noise; of parallel ones they add up, and the result is up to N times the sum of N LoRAs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapters.base import Lora
from ..numerics.gram import delta_gram
from .matching import WeightGroup

# Cosine of two LoRAs' deltas from which on they count as nearly parallel. That of unrelated LoRAs is near 0, of late
# epochs of one training near 1.
NEAR_PARALLEL = 0.7
# Of more LoRAs the first ones are compared.
MOST_COMPARED = 32
# Multiplications spent for each number in the factors, so that it takes under 5 % of the merge: a Gram matrix takes as
# many as the ranks add up to, so only some of the weights are looked at.
WORK_PER_NUMBER = 1
# What takes milliseconds is spent in any case: a small merge is looked at as a whole.
FREE_WORK = 5e7
_GOLDEN = (math.sqrt(5) - 1) / 2


def _chosen(groups: Sequence[WeightGroup]) -> set[str]:
    """The weights to look at, evenly spread over those that several LoRAs have."""
    shared = [group for group in groups if len(group.contributions) > 1]
    numbers = work = 0
    for group in shared:
        ranks = sum(contribution.adapter.rank for contribution in group.contributions)
        shape = group.weight_shape
        numbers += (shape[0] + math.prod(shape[1:])) * ranks
        work += (shape[0] + math.prod(shape[1:])) * ranks**2
    part = max(FREE_WORK, WORK_PER_NUMBER * numbers) / max(1, work)
    # by the golden ratio: with a fixed step it could be the same projection of every block
    return {group.weight for n, group in enumerate(shared) if (n * _GOLDEN) % 1 < part}


class ParallelCheck:
    """Looks at some weights of a merge on factors: `look` while each is merged, `note` at the end."""

    def __init__(self, loras: Sequence[Lora], groups: Sequence[WeightGroup]) -> None:
        self._names = [lora.name for lora in loras]
        self._chosen = _chosen(groups)
        count = min(len(loras), MOST_COMPARED)
        self._inner = torch.zeros(count, count, dtype=torch.float64)
        self._norms = torch.zeros(count, count, dtype=torch.float64)  # of LoRA i where j has the weight too
        self._sum = self._result = 0.0

    def look(
        self, group: WeightGroup, ups: Sequence[Tensor], downs: Sequence[Tensor], up: Tensor, down: Tensor
    ) -> None:
        """``ups`` and ``downs`` are the factors of the meeting's shares, ``up`` and ``down`` their merge."""
        if group.weight not in self._chosen:
            return
        compared = [
            n for n, contribution in enumerate(group.contributions) if contribution.input_index <= MOST_COMPARED
        ]
        if len(compared) < 2:
            return
        gram = delta_gram(
            [ups[n] for n in compared],
            [downs[n] for n in compared],
            [group.contributions[n].effective_weight for n in compared],
        )
        places = torch.tensor([group.contributions[n].input_index - 1 for n in compared])
        self._inner[places[:, None], places] += gram
        self._norms[places[:, None], places] += gram.diagonal()[:, None]
        if len(compared) == len(group.contributions):
            self._sum += float(gram.sum())
            self._result += float(delta_gram([up], [down], [1.0]))

    def cosines(self) -> Tensor:
        """The cosine of each two LoRAs on the weights looked at that both have; 0 where there are none."""
        scale = (self._norms * self._norms.mT).sqrt()
        return torch.where(scale > 0, self._inner / scale, 0.0)

    def note(self, mode: str) -> str | None:
        """One or two sentences for the user where two of the LoRAs are nearly parallel."""
        cosines = self.cosines().abs().nan_to_num().triu(1)
        if not len(cosines) or float(cosines.max()) < NEAR_PARALLEL:
            return None
        first, second = divmod(int(cosines.argmax()), len(cosines))
        pair = f"{self._names[first]} and {self._names[second]} are nearly parallel (cosine {cosines.max():.2f})"
        factor = math.sqrt(self._result / self._sum) if self._sum > 0 else 1.0
        strong = f" The result is {factor:.1f} times as strong as the sum." if factor >= 1.05 else ""
        return f"{pair}, so {mode} also adds up their cross terms.{strong} For the true sum use concat or add_svd."
