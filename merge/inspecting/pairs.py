"""How two LoRAs relate as a whole. Each number stands beside what chance gives.

Two unrelated LoRAs have a cosine near 0, differ in the sign of half of the elements, and share r / n of their
directions. Only what goes beyond that means something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ..adapters.base import Lora
from ..errors import LoraError
from ..merging.fused_rows import Contribution
from ..merging.key_resolver import KeyResolver, ModelNames, resolver_for
from ..merging.matching import WeightGroup, group_by_weight
from .loras import LoraMeter, LoraNumbers
from .places import Place
from .weight_pairs import Sharing, WeightPair, mean_sharing, measure_weight_pair
from .weights import is_measurable


@dataclass(frozen=True, eq=False)
class PairNumbers:
    """``first`` and ``second`` are the LoRAs' indices in the order given. ``weights`` and ``places`` are those of the
    weights that both have, by the first one's key.

    ``cosine`` counts all weights of both, ``sum_norm`` is the norm of their sum. The signs are means by the number of
    elements, ``inside`` and ``around`` (see WeightPair) by energy. None: not measured. ``problem`` says why two LoRAs
    can't be compared.
    """

    first: int
    second: int
    weights: Mapping[str, WeightPair]
    places: Mapping[str, Place]
    cosine: float | None = None
    sum_norm: float | None = None
    sign_conflict: float | None = None
    sign_conflict_by_chance: float | None = None
    inside: Sharing | None = None
    around: Sharing | None = None
    problem: str | None = None

    def sharing_by_block(self, sharing: Sharing) -> dict[str, tuple[Sharing, float]]:
        """``inside`` or ``around`` for each block, and the block's share of the energy that this is about."""
        side = 1 if sharing is self.inside else 0
        blocks: dict[str, list[WeightPair]] = {}
        for key, pair in self.weights.items():
            blocks.setdefault(self.places[key].block, []).append(pair)
        total = sum(pair.energies[side] for pair in self.weights.values())
        found = {}
        for block, pairs in blocks.items():
            mean = mean_sharing(((pair.around, pair.inside)[side], pair.energies[side]) for pair in pairs)
            if mean is not None:
                found[block] = (mean, sum(pair.energies[side] for pair in pairs) / total)
        return found


def groups_of(first: Lora, second: Lora, model: ModelNames | None = None) -> tuple[list[WeightGroup], KeyResolver]:
    """The weights that two LoRAs both change, where that can be measured.

    Raises LoraError if the LoRAs aren't for one model.
    """
    loras = [
        replace(lora, modules={key: module for key, module in lora.modules.items() if is_measurable(module)})
        for lora in (first, second)
    ]
    resolver = resolver_for(loras, model)
    return [group for group in group_by_weight(loras, resolver) if len(group.contributions) == 2], resolver


@dataclass(frozen=True, eq=False)
class ComparedWeights:
    """The weights that two LoRAs both have, by the first one's key; ``problem``: why they can't be compared."""

    weights: Mapping[str, WeightPair]
    problem: str | None = None


def compare_weights(
    first: LoraMeter, second: LoraMeter, model: ModelNames | None, step: Callable[[], None]
) -> ComparedWeights:
    """Compare two LoRAs weight by weight, and measure these weights on the way; ``step`` is called after each."""
    try:
        groups, resolver = groups_of(first.lora, second.lora, model)
    except LoraError as error:
        return ComparedWeights({}, str(error))
    weights: dict[str, WeightPair] = {}
    for group in groups:
        own, other = group.contributions
        products = first.product(own.adapter), second.product(other.adapter)
        weights[_key(own, first.lora, resolver)] = measure_weight_pair(group, products)
        step()
    return ComparedWeights(weights)


def pair_numbers(
    indices: tuple[int, int], numbers: tuple[LoraNumbers, LoraNumbers], compared: ComparedWeights
) -> PairNumbers:
    """Two LoRAs as a whole, from the numbers of each and of the weights that both have."""
    weights = compared.weights
    places = {key: numbers[0].places[key] for key in weights}
    a, b = (one.norm for one in numbers)
    if compared.problem is not None or a is None or b is None:
        return PairNumbers(*indices, weights, places, problem=compared.problem)
    pairs = list(weights.values())
    inner = sum(pair.inner for pair in pairs)
    signs = [(pair.sign_conflict, pair.cosine, pair.elements) for pair in pairs]
    return PairNumbers(
        *indices,
        weights,
        places,
        cosine=max(-1.0, min(1.0, inner / (a * b))) if a * b > 0 else None,
        sum_norm=math.sqrt(max(0.0, a**2 + b**2 + 2 * inner)),
        sign_conflict=_mean((conflict, size) for conflict, _, size in signs),
        sign_conflict_by_chance=_mean(
            (None if cosine is None else math.acos(cosine) / math.pi, size) for _, cosine, size in signs
        ),
        inside=mean_sharing((pair.inside, pair.energies[1]) for pair in pairs),
        around=mean_sharing((pair.around, pair.energies[0]) for pair in pairs),
    )


def _mean(weighted: Iterable[tuple[float | None, int]]) -> float | None:
    """The mean of the measured values by the number that comes with each."""
    measured = [(value, weight) for value, weight in weighted if value is not None]
    total = sum(weight for _, weight in measured)
    return sum(value * weight for value, weight in measured) / total if total else None


def _key(contribution: Contribution, lora: Lora, resolver: KeyResolver) -> str:
    """The key of a contribution in its own LoRA; of several modules that were joined for it, the first one's."""
    adapter = contribution.adapter
    if adapter.key in lora.modules:
        return adapter.key
    weight = contribution.target.weight
    same = (
        key
        for key, module in lora.modules.items()
        if module.parameter == adapter.parameter and resolver.resolve(module.name).weight == weight
    )
    return next(same, adapter.key)
