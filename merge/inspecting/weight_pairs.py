"""How two LoRAs relate in one weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..merging.matching import WeightGroup
from ..numerics.product import Inside, compare
from .elements import compare_rows, sign_conflict
from .weights import WeightedProduct


@dataclass(frozen=True)
class Side:
    """The share inside the other LoRA's directions on one side of the weight, and what chance gives."""

    name: str
    share: float
    chance: float

    @property
    def above_chance(self) -> float:
        """0 at chance, 1 if all is shared; 0 where chance gives everything."""
        return (self.share - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0


@dataclass(frozen=True)
class Sharing:
    """Shares of one LoRA's energy inside the other's input and output directions, and what chance gives.

    r random directions of n hold r / n of anything, so that is chance.
    """

    input: float
    input_by_chance: float
    output: float
    output_by_chance: float

    @property
    def sides(self) -> tuple[Side, Side]:
        return (
            Side("input", self.input, self.input_by_chance),
            Side("output", self.output, self.output_by_chance),
        )


@dataclass(frozen=True)
class WeightPair:
    """``energies`` are those of the first and the second LoRA, ``inner`` is their inner product.

    ``sign_conflict`` is the share of elements with different signs, None if one of the two is zero. ``inside`` is what
    the second one has inside the first one's directions, ``around`` the reverse; None for vectors, which have no
    directions, and for deltas that are too large without factors.
    """

    energies: tuple[float, float]
    inner: float
    elements: int
    sign_conflict: float | None = None
    inside: Sharing | None = None
    around: Sharing | None = None

    @property
    def cosine(self) -> float | None:
        """None if one of the two is zero."""
        scale = math.sqrt(self.energies[0]) * math.sqrt(self.energies[1])
        return max(-1.0, min(1.0, self.inner / scale)) if scale > 0 else None


def measure_weight_pair(group: WeightGroup, products: Sequence[WeightedProduct | None]) -> WeightPair:
    """Compare two LoRAs' contributions to a weight, with strengths and block weights.

    ``products`` are those of the contributions' adapters.
    """
    first, second = group.contributions
    elements = group.rows * (1 if group.is_vector else group.columns)
    a, b = products
    if a is None or b is None:
        weight = first.strength * second.strength
        sums = compare_rows(first.adapter, second.adapter, weight)
        energies = (sums.energies[0] * first.strength**2, sums.energies[1] * second.strength**2)
        conflict = sums.sign_conflict if min(energies) > 0 else None
        return WeightPair(energies, sums.inner * weight, elements, conflict)
    weights = a.weight * first.strength, b.weight * second.strength
    energies = (a.product.energy * weights[0] ** 2, b.product.energy * weights[1] ** 2)
    if min(energies) == 0:  # a delta of zero has no directions
        nothing = None if group.is_vector else Sharing(0.0, 0.0, 0.0, 0.0)
        return WeightPair(energies, 0.0, elements, None, nothing, nothing)
    weight = weights[0] * weights[1]
    found = compare(a.product, b.product)
    conflict = sign_conflict(a.product, b.product, weight)
    if group.is_vector:
        return WeightPair(energies, found.inner * weight, elements, conflict)
    sides = _sharing(found.inside, group), _sharing(found.around, group)
    return WeightPair(energies, found.inner * weight, elements, conflict, *sides)


def mean_sharing(weighted: Iterable[tuple[Sharing | None, float]]) -> Sharing | None:
    """The mean of those that are measured, by the weight that comes with each; None if the weights sum to 0."""
    measured = [(sharing, weight) for sharing, weight in weighted if sharing is not None]
    total = sum(weight for _, weight in measured)
    if total <= 0:
        return None
    rows = [(s.input * w, s.input_by_chance * w, s.output * w, s.output_by_chance * w) for s, w in measured]
    return Sharing(*(sum(column) / total for column in zip(*rows, strict=True)))


def _sharing(found: Inside, group: WeightGroup) -> Sharing:
    return Sharing(min(1.0, found.input), found.rank / group.columns, min(1.0, found.output), found.rank / group.rows)
