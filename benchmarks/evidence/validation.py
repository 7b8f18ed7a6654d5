"""Does the score of PM XY Grid rank merges as the judges do? From the saved pictures of a run.

The encoder has never seen the concepts and styles (image_encoder.py), and nobody tells the score what a picture should
show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from . import settings
from .cases import PICTURES, REPORT, Case, choosing, independent
from .cases import SEEDS as SEEDS_OF_LORAS
from .evaluate import read_sheet
from .references import KINDS, OWN_PROMPTS, references_of
from .results import evaluation_in
from .scores import FORMULAS, PACKS
from .statistics import Estimate, estimate
from .study import Study

PLOT = 9  # cells of a plot
PLOTS = 200  # for each pair
SEEDS = (1, 3)  # noises of a plot
DRAWS = 1000  # of the bootstrap over pairs

Measure = tuple[str, str]  # a kind of references and a formula
MEASURES: tuple[Measure, ...] = (
    *((kind, PACKS) for kind in KINDS),
    *((OWN_PROMPTS, formula) for formula in FORMULAS if formula != PACKS),
)


@dataclass(frozen=True)
class Scored:
    """A case with one setting: what the judges found and the scores, for each noise; NaN where a LoRA shows nothing."""

    pair: str
    case: str
    setting: str
    both: np.ndarray
    scores: Mapping[Measure, np.ndarray]


def validate(study: Study) -> dict[str, Any]:
    """What the page says about the score. Empty if the run hasn't got far enough."""
    modes = [setting.key for setting in settings.defaults()]
    rounds = range(3 * SEEDS_OF_LORAS)
    reported = [one for round_ in rounds for case in independent(REPORT, round_) for one in _scored(study, case, modes)]
    chosen = [one for round_ in range(3) for case in choosing(round_) for one in _scored(study, case)]
    if not reported or not chosen:
        return {}

    def ranks(measure: Measure) -> dict[str, list[float]]:
        return {
            "settings": _rounded(_over_settings(chosen, measure)),
            "modes": _rounded(_over_modes(reported, measure)),
        }

    return {
        "references": {
            kind: ranks((kind, PACKS)) | {str(seeds): _picks(chosen, seeds, (kind, PACKS)) for seeds in SEEDS}
            for kind in KINDS
        },
        "formulas": {formula: ranks((OWN_PROMPTS, formula)) for formula in FORMULAS},
        "settings": len({one.setting for one in chosen}),
        "modes": len({one.setting for one in reported}),
    }


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's; 0 where one of both never changes."""
    if min(np.ptp(first), np.ptp(second)) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)  # type: ignore[attr-defined]


def _scored(study: Study, case: Case, wanted: Sequence[str] | None = None) -> Iterator[Scored]:
    """The case with each setting that has been evaluated, or with those of ``wanted``."""
    if not (study.reference_file(case).is_file() and study.nodes_file(case).is_file()):
        return
    known = {kind: references_of(study, case, kind) for kind in KINDS}
    files = (
        sorted((study.folder / "evaluations").glob(f"{case.key}__*.json"))
        if wanted is None
        else [study.evaluation_file(case, setting) for setting in wanted]
    )
    for path in files:
        if path.is_file():
            one = evaluation_in(path)
            pictures = study.encoder.embed(read_sheet(path.with_suffix(".png"))[:PICTURES])
            found = {
                (kind, formula): np.array([
                    np.nan if of is None else FORMULAS[formula](picture, of)
                    for picture, of in zip(pictures, known[kind], strict=True)
                ])
                for kind, formula in MEASURES
            }  # fmt: skip
            yield Scored(one.pair, one.case, one.setting, np.array(one.both, float), found)


def _over_settings(scored: Sequence[Scored], measure: Measure) -> Estimate:
    """Rank correlation over all settings of a pair: the mean over pairs."""
    found = {}
    for case, group in _by_case(scored).items():
        means = [_score(one, measure) for one in group]
        found[case] = (group[0].pair, [rank_correlation(means, [float(one.both.mean()) for one in group])])
    return _known(estimate(found))


def _over_modes(scored: Sequence[Scored], measure: Measure) -> Estimate:
    """Rank correlation over modes of their means over all cases. The bootstrap draws pairs."""
    cells: dict[tuple[str, str], list[Scored]] = {}
    for one in scored:
        cells.setdefault((one.setting, one.pair), []).append(one)
    modes, pairs = ({key[part] for key in cells} for part in (0, 1))
    complete = sorted(pair for pair in pairs if all((mode, pair) in cells for mode in modes))

    def table(value: Callable[[Scored], float]) -> np.ndarray:
        """(modes, pairs)"""
        return np.array([[np.mean([value(one) for one in cells[mode, pair]]) for pair in complete] for mode in modes])

    score, both = table(lambda one: _score(one, measure)), table(lambda one: float(one.both.mean()))
    random = np.random.RandomState(0)
    drawn = [random.randint(0, len(complete), len(complete)) for _ in range(DRAWS)]
    values = [rank_correlation(score[:, draw].mean(1), both[:, draw].mean(1)) for draw in drawn]
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(rank_correlation(score.mean(1), both.mean(1)), float(low), float(high), len(complete))


def _picks(scored: Sequence[Scored], seeds: int, measure: Measure) -> dict[str, list[float]]:
    """How often the picked cell of a plot shows both on noises that the plot hasn't seen, by who picks it.

    A plot has PLOT settings at random and ``seeds`` noises.
    """
    found: dict[str, dict[str, tuple[str, list[float]]]] = {}
    for case, group in _by_case(scored).items():
        for who, rate in _picks_of(group, seeds, measure).items():
            found.setdefault(who, {})[case] = (group[0].pair, [rate])
    gains = {case: (pair, [found["score"][case][1][0] - values[0]]) for case, (pair, values) in found["chance"].items()}
    return {who: _rounded(_known(estimate(rates))) for who, rates in {**found, "gain": gains}.items()}


def _picks_of(group: Sequence[Scored], seeds: int, measure: Measure) -> dict[str, float]:
    random = np.random.RandomState(0)
    both = np.stack([one.both for one in group])
    score = np.nan_to_num(np.stack([one.scores[measure] for one in group]), nan=-1.0)
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


def _score(one: Scored, measure: Measure) -> float:
    values = one.scores[measure]
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
