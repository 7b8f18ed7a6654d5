"""Numbers of the report, from the results: rates, differences to the exact sum, and what a LoRA reaches alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import glyphs
from .cases import ALONE, CHOOSE, INDEPENDENT
from .loras import spelled
from .results import Evaluation, Results
from .settings import ALONE as ALONE_SETTING
from .settings import setting_of
from .statistics import Estimate, Outcomes, difference, estimate

SUM = "concat"  # what every merge is compared with: the picture of loading the LoRAs one after the other

Measure = Callable[[Evaluation], Sequence[float]]


def concept(one: Evaluation) -> Sequence[float]:
    return one.concept


def style(one: Evaluation) -> Sequence[float]:
    return one.style


def both(one: Evaluation) -> Sequence[float]:
    return one.both


def known(one: Evaluation) -> Sequence[float]:
    return (one.known,)


def moved(one: Evaluation) -> Sequence[float]:
    return (one.moved,)


def distance(one: Evaluation) -> Sequence[float]:
    return (one.distance,)


@dataclass(frozen=True)
class Row:
    """One setting on the cases that the sum was evaluated on too."""

    setting: str
    concept: float
    style: float
    both: Estimate
    to_sum: Estimate  # paired difference of both
    normalised: float  # both over what the LoRAs reach alone
    known: float
    moved: float
    distance: float
    distance_to_sum: Estimate


def outcomes(found: Mapping[str, Evaluation], measure: Measure) -> Outcomes:
    return {case: (one.pair, measure(one)) for case, one in found.items()}


def row(results: Results, stratum: str, half: str, setting: str) -> Row | None:
    """None where the setting wasn't evaluated together with the sum."""
    sums = results.of(stratum, half, SUM)
    found = {case: one for case, one in results.of(stratum, half, setting).items() if case in sums}
    if not found:
        return None
    values = list(found.values())
    of_both = estimate(outcomes(found, both))
    to_sum = difference(outcomes(found, both), outcomes(sums, both))
    by_distance = difference(outcomes(found, distance), outcomes(sums, distance))
    assert of_both and to_sum and by_distance
    return Row(
        *(setting, _mean(values, concept), _mean(values, style), of_both, to_sum),
        of_both.mean / max(alone_product(results, values), 1e-9),
        *(_mean(values, known), _mean(values, moved), _mean(values, distance), by_distance),
    )


def rows(results: Results, stratum: str, half: str, wanted: Sequence[str]) -> list[Row]:
    """The rows of these settings that there are, the best first."""
    found = [row(results, stratum, half, setting) for setting in wanted]
    return sorted((one for one in found if one), key=lambda one: -one.both.mean)


def alone_product(results: Results, evaluations: Sequence[Evaluation]) -> float:
    """What could be expected of LoRAs that don't disturb each other: the product of their rates alone.

    Averaged over the evaluations. LoRAs of several concepts or styles count with their mean.
    """
    rates = alone_rates(results)
    products = []
    for one in evaluations:
        names = [lora.rpartition(":")[0] for lora in one.loras]
        known = [rates[name] for name in names if name in rates]
        parts = [[rate for is_concept, rate in known if is_concept == kind] for kind in (True, False)]
        products.append(float(np.prod([np.mean(part) for part in parts if part])) if known else 1.0)
    return float(np.mean(products))


def alone_rates(results: Results) -> dict[str, tuple[bool, float]]:
    """For each LoRA alone: whether it is a concept, and how often its character or font is right."""
    found = {}
    for one in results.evaluations:
        if one.stratum == ALONE and one.setting == ALONE_SETTING:
            # Of a concept's targets all have its character; of a style's all its font: the name begins with it.
            is_concept = is_concept_name(one.pair)
            found[one.pair] = is_concept, float(np.mean(one.concept if is_concept else one.style))
    return found


def is_concept_name(name: str) -> bool:
    return name.split("_")[0] in {spelled(character) for character in glyphs.CONCEPTS}


def chosen_settings(results: Results) -> dict[str, str]:
    """For each mode, the setting with the highest rate of both on the pairs for choosing."""
    best: dict[str, tuple[float, str]] = {}
    evaluated = {setting: results.of(INDEPENDENT, CHOOSE, setting) for setting in results.settings(INDEPENDENT, CHOOSE)}
    most = max(map(len, evaluated.values()), default=0)
    for setting in sorted(setting for setting, found in evaluated.items() if len(found) == most):
        values = list(evaluated[setting].values())
        mode = setting_of(setting).mode
        best[mode] = max(best.get(mode, (-1.0, "")), (_mean(values, both), setting))
    return {mode: setting for mode, (_, setting) in best.items()}


def _mean(evaluations: Sequence[Evaluation], measure: Measure) -> float:
    return float(np.mean([np.mean(measure(one)) for one in evaluations]))
