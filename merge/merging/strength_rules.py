"""Scales each merged module to a norm that its LoRAs determine, so that a merge keeps their strength.

Modes that take a mean, elect signs or drop values leave a weaker LoRA than the plain sum, or a stronger one. For the
merged delta M of the deltas D_t (strengths included, before any density) the rules are, in Frobenius norms:

    of the sum          M * |D_1 + D_2 + ...| / |M|
    of the strongest    M * max |D_t| / |M|
    as if orthogonal    M * sqrt(|D_1|^2 + |D_2|^2 + ...) / |M|

They apply after the mode and before the truncation, and form no dense delta where the mode forms none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..compute.context import Compute
from ..numerics.orthonormal_bases import orthonormal_bases
from .delta_rows import factors_on
from .gram import group_gram
from .matching import WeightGroup
from .options import AS_IF_ORTHOGONAL, OF_THE_MODE, OF_THE_STRONGEST, OF_THE_SUM

# Where |M| or the sum's norm is below this share of sqrt(sum of |D_t|^2), the deltas cancel out: nothing to scale to.
CANCELLED = 1e-6
# A Gram matrix gives the square of the sum's norm to 1e-16 of that of the joint norm; below this share it is computed
# from the factors themselves.
EXACT_FROM_GRAM = 1e-8
MOST_NAMED = 3


class StrengthRule:
    """The rule of one merge: call ``factor`` for each module, then ``note``.

    ``is_sum``: the merge is the plain sum, which has its own norm already.
    """

    def __init__(self, rule: str, is_sum: bool) -> None:
        self.applied = OF_THE_MODE if is_sum and rule == OF_THE_SUM else rule
        self._cancelled: list[str] = []

    @property
    def scales(self) -> bool:
        return self.applied != OF_THE_MODE

    def factor(self, group: WeightGroup, squared_norm: float | None, compute: Compute) -> float:
        """What to multiply the merged delta by, given the square of its norm; None for the plain sum."""
        if not self.scales:
            return 1.0
        gram = group_gram(group, compute)
        joint = float(gram.trace())
        if joint == 0.0:
            return 1.0
        if squared_norm is None:
            squared_norm = _squared_sum(group, gram, compute)
        wanted = self._squared_target(gram, group, compute)
        if min(squared_norm, wanted) < CANCELLED**2 * joint:
            self._cancelled.append(group.name)
            return 1.0
        return math.sqrt(wanted / squared_norm)

    def note(self) -> str | None:
        """A sentence for the user about modules that were not scaled."""
        if not self._cancelled:
            return None
        return (
            f"Strength rule '{self.applied}': the strength of {named(self._cancelled)} is left as it is, because "
            "almost nothing is left of the LoRAs there: they cancel each other out, or the mode dropped them."
        )

    def _squared_target(self, gram: Tensor, group: WeightGroup, compute: Compute) -> float:
        if self.applied == OF_THE_STRONGEST:
            return float(gram.diagonal().max())
        if self.applied == AS_IF_ORTHOGONAL:
            return float(gram.trace())
        assert self.applied == OF_THE_SUM
        return _squared_sum(group, gram, compute)


def _squared_sum(group: WeightGroup, gram: Tensor, compute: Compute) -> float:
    """The square of the sum's norm, exact also where deltas with factors nearly cancel out."""
    by_gram = float(gram.sum())
    if by_gram > EXACT_FROM_GRAM * float(gram.trace()) or not group.has_all_factors:
        return max(0.0, by_gram)
    terms = [(*factors_on(compute.float64_device, one), one.effective_weight) for one in group.contributions]
    bases = orthonormal_bases(terms)
    return 0.0 if bases is None else float(torch.linalg.matrix_norm(bases.left @ bases.right)) ** 2


def named(modules: Sequence[str]) -> str:
    """A few module names and how many there are in all; one that was tried twice counts once."""
    modules = list(dict.fromkeys(modules))
    if len(modules) == 1:
        return f"module {modules[0]}"
    return f"{len(modules)} modules ({', '.join(modules[:MOST_NAMED])}{', ...' * (len(modules) > MOST_NAMED)})"
