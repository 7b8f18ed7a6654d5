"""A few words for the line that a merge shows: is one LoRA far stronger, do two overlap strongly?

Estimated from a few of the weights, so that it takes less than 5 % of an exact merge. PM Inspect LoRA measures all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..adapters.base import Lora
from ..compute.threads import threads
from ..errors import LoraError
from ..merging.key_resolver import ModelNames, resolver_for
from ..merging.matching import WeightGroup, group_by_weight
from ..merging.sampling import evenly_spread
from ..numerics.product import Comparison, compare
from .advice import THRESHOLDS
from .weights import WeightedProduct, as_product, is_measurable
from .wording import number, shortened

# The weights that are measured: at most this many, and at most this share of those that several LoRAs have.
MOST_SAMPLED = 16
SHARE_SAMPLED = 0.025
# Weights with a larger rank or without factors take too long.
MOST_RANK = 256
# If there are more LoRAs, only the first ones are compared in pairs.
MOST_COMPARED = 6
MOST_LETTERS = 24


def quick_words(loras: Sequence[Lora], model: ModelNames | None = None, are_equalised: bool = False) -> str:
    """Five words on each finding, such as "B about 78 times stronger"; empty if there is nothing to say.

    ``are_equalised``: the merge makes the LoRAs equally strong, so that this is not said.
    """
    known = [replace(lora, modules={k: m for k, m in lora.modules.items() if is_measurable(m)}) for lora in loras]
    try:
        groups = group_by_weight(known, resolver_for(known, model))
    except LoraError:  # the merge says why
        return ""
    estimate = _Estimate()
    with threads(1):
        for group in _sampled(groups):
            estimate.add(group)
    names = [shortened(lora.name, MOST_LETTERS) for lora in loras]
    imbalance = () if are_equalised else _imbalance(estimate, names)
    return ", ".join([*imbalance, *_overlap(estimate, names)])


class _Estimate:
    """Sums over the sampled weights, by input index (from 0) or by pairs of them."""

    def __init__(self) -> None:
        self.energies: dict[int, float] = defaultdict(float)
        self.inner: dict[tuple[int, int], float] = defaultdict(float)
        self.pair_energies: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        # of the larger share beyond chance, in both directions, times the energy that it is a share of
        self.shared: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, group: WeightGroup) -> None:
        products: list[tuple[int, WeightedProduct, float]] = []
        for one in group.contributions:
            product = as_product(one.adapter)
            assert product is not None
            energy = product.product.energy * (product.weight * one.strength) ** 2
            self.energies[one.input_index - 1] += energy
            if energy > 0 and one.input_index <= MOST_COMPARED:
                products.append((one.input_index - 1, replace(product, weight=product.weight * one.strength), energy))
        for i, (first, a, energy_a) in enumerate(products):
            for second, b, energy_b in products[i + 1 :]:
                found, pair = compare(a.product, b.product), (first, second)
                self.inner[pair] += found.inner * a.weight * b.weight
                for side, energy in enumerate((energy_a, energy_b)):
                    self.pair_energies[pair][side] += energy
                    self.shared[pair][side] += energy * _above_chance(found, side, group)

    def overlap(self, pair: tuple[int, int]) -> bool:
        energies = self.pair_energies[pair]
        cosine = self.inner[pair] / math.sqrt(energies[0] * energies[1])
        share = max(shared / energy for shared, energy in zip(self.shared[pair], energies, strict=True))
        return abs(cosine) >= THRESHOLDS.cosine or share >= THRESHOLDS.shared


def _above_chance(found: Comparison, side: int, group: WeightGroup) -> float:
    inside = (found.around, found.inside)[side]
    sides = ((inside.input, inside.rank / group.columns), (inside.output, inside.rank / group.rows))
    return max((share - chance) / (1 - chance) if chance < 1 else 0.0 for share, chance in sides)


def _sampled(groups: Sequence[WeightGroup]) -> list[WeightGroup]:
    """Some of the weights that several LoRAs have, evenly spread."""
    shared = [group for group in groups if len(group.contributions) > 1 and _is_cheap(group)]
    count = min(MOST_SAMPLED, max(1, round(SHARE_SAMPLED * len(shared))))
    return evenly_spread(shared, count / len(shared) if shared else 0.0)


def _is_cheap(group: WeightGroup) -> bool:
    adapters = [contribution.adapter for contribution in group.contributions]
    return not group.is_vector and all(one.has_factors and one.rank <= MOST_RANK for one in adapters)


def _imbalance(estimate: _Estimate, names: Sequence[str]) -> Iterator[str]:
    energies = [(energy, index) for index, energy in estimate.energies.items() if energy > 0]
    if len(energies) > 1:
        (least, _), (most, strong) = min(energies), max(energies)
        ratio = math.sqrt(most / least)
        if ratio >= THRESHOLDS.imbalance:
            yield f"{names[strong]} about {number(ratio)} times stronger"


def _overlap(estimate: _Estimate, names: Sequence[str]) -> Iterator[str]:
    pairs = [pair for pair in estimate.pair_energies if estimate.overlap(pair)]
    if len(pairs) == 1:
        yield f"{names[pairs[0][0]]} and {names[pairs[0][1]]} overlap strongly"
    elif pairs:
        yield f"{len(pairs)} pairs of LoRAs overlap strongly"
