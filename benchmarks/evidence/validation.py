"""Does the score of PM XY Grid rank merges as the judges do? From the saved pictures of a run.

The encoder has never seen the concepts and styles (image_encoder.py), and nobody tells the score what a picture should
show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor

from . import settings
from .cases import CHOOSE, INDEPENDENT, REPORT
from .evaluate import read_sheet
from .results import Evaluation, evaluation_in
from .scores import FORMULAS, PACKS, scores
from .statistics import Estimate, estimate
from .study import Study

PLOT = 9  # cells of a plot
PLOTS = 200  # for each pair
SEEDS = (1, 3)  # noises of a plot
DRAWS = 1000  # of the bootstrap over pairs


@dataclass(frozen=True)
class Scored:
    """A case with one setting: what the judges found and the formulas' scores, for each noise."""

    pair: str
    case: str
    setting: str
    both: np.ndarray
    scores: Mapping[str, np.ndarray]


def validate(study: Study) -> dict[str, Any]:
    """What the page says about the score. Empty if the run hasn't got far enough."""
    modes = {setting.key for setting in settings.defaults()}
    found: dict[str, list[Scored]] = {REPORT: [], CHOOSE: []}
    references: dict[str, Tensor] = {}
    for path in study.files():
        one, sheet = evaluation_in(path), study.reference_file(path.name.partition("__")[0])
        if one.stratum == INDEPENDENT and (one.half == CHOOSE or one.setting in modes) and sheet.is_file():
            if one.case not in references:
                references[one.case] = study.encoder.embed(read_sheet(sheet))
            found[one.half].append(_scored(study, path, one, references[one.case]))
    reported, chosen = found[REPORT], found[CHOOSE]
    if not reported or not chosen:
        return {}
    return {
        "formulas": {
            name: {"settings": _rounded(_over_settings(chosen, name)), "modes": _rounded(_over_modes(reported, name))}
            for name in FORMULAS
        },
        "settings": len({one.setting for one in chosen}),
        "modes": {mode: _means(reported, mode) for mode in sorted({one.setting for one in reported})},
        "picks": {str(seeds): _picks(chosen, seeds) for seeds in SEEDS},
    }


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's; 0 where one of both never changes."""
    if min(np.ptp(first), np.ptp(second)) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)  # type: ignore[attr-defined]


def _scored(study: Study, path: Path, one: Evaluation, references: Tensor) -> Scored:
    count = len(one.concept)
    pictures = study.encoder.embed(read_sheet(path.with_suffix(".png"))[:count])
    compared = references.reshape(-1, count, references.shape[-1])
    return Scored(one.pair, one.case, one.setting, np.array(one.both, float), scores(compared, pictures))


def _over_settings(scored: Sequence[Scored], formula: str) -> Estimate:
    """Rank correlation over all settings of a pair: the mean over pairs."""
    found = {}
    for case, group in _by_case(scored).items():
        means = [_score(one, formula) for one in group]
        found[case] = (group[0].pair, [rank_correlation(means, [float(one.both.mean()) for one in group])])
    return _known(estimate(found))


def _over_modes(scored: Sequence[Scored], formula: str) -> Estimate:
    """Rank correlation over modes of their means over all cases. The bootstrap draws pairs."""
    cells: dict[tuple[str, str], list[Scored]] = {}
    for one in scored:
        cells.setdefault((one.setting, one.pair), []).append(one)
    modes, pairs = ({key[part] for key in cells} for part in (0, 1))
    complete = sorted(pair for pair in pairs if all((mode, pair) in cells for mode in modes))

    def table(value: Callable[[Scored], float]) -> np.ndarray:
        """(modes, pairs)"""
        return np.array([[np.mean([value(one) for one in cells[mode, pair]]) for pair in complete] for mode in modes])

    score, both = table(lambda one: _score(one, formula)), table(lambda one: float(one.both.mean()))
    random = np.random.RandomState(0)
    drawn = [random.randint(0, len(complete), len(complete)) for _ in range(DRAWS)]
    values = [rank_correlation(score[:, draw].mean(1), both[:, draw].mean(1)) for draw in drawn]
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(rank_correlation(score.mean(1), both.mean(1)), float(low), float(high), len(complete))


def _picks(scored: Sequence[Scored], seeds: int) -> dict[str, list[float]]:
    """How often the picked cell of a plot shows both on noises that the plot hasn't seen, by who picks it.

    A plot has PLOT settings at random and ``seeds`` noises.
    """
    found: dict[str, dict[str, tuple[str, list[float]]]] = {}
    for case, group in _by_case(scored).items():
        for who, rate in _picks_of(group, seeds).items():
            found.setdefault(who, {})[case] = (group[0].pair, [rate])
    gains = {case: (pair, [found["score"][case][1][0] - values[0]]) for case, (pair, values) in found["chance"].items()}
    return {who: _rounded(_known(estimate(rates))) for who, rates in {**found, "gain": gains}.items()}


def _picks_of(group: Sequence[Scored], seeds: int) -> dict[str, float]:
    random = np.random.RandomState(0)
    both = np.stack([one.both for one in group])
    score = np.nan_to_num(np.stack([one.scores[PACKS] for one in group]), nan=-1.0)
    rates: dict[str, list[float]] = {"score": [], "judges": [], "chance": []}
    for _ in range(PLOTS):
        cells = random.permutation(len(group))[:PLOT]
        order = random.permutation(both.shape[1])
        seen, other = order[:seeds], order[seeds:]
        later = both[cells][:, other].mean(1)
        rates["score"].append(later[score[cells][:, seen].mean(1).argmax()])
        rates["judges"].append(later[both[cells][:, seen].mean(1).argmax()])
        rates["chance"].append(later.mean())
    return {who: float(np.mean(values)) for who, values in rates.items()}


def _means(scored: Sequence[Scored], setting: str) -> list[float]:
    """The mean score and the rate of both."""
    group = [one for one in scored if one.setting == setting]
    return [round(float(np.mean([_score(one, PACKS) for one in group])), 4),
            round(float(np.mean([one.both.mean() for one in group])), 4)]  # fmt: skip


def _score(one: Scored, formula: str) -> float:
    values = one.scores[formula]
    return float(np.nanmean(values)) if not np.isnan(values).all() else 0.0


def _by_case(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    found: dict[str, list[Scored]] = {}
    for one in scored:
        found.setdefault(one.case, []).append(one)
    return dict(sorted(found.items()))


def _known(one: Estimate | None) -> Estimate:
    assert one is not None  # there are cases
    return one


def _rounded(one: Estimate) -> list[float]:
    return [round(one.mean, 4), round(one.low, 4), round(one.high, 4), one.pairs]
