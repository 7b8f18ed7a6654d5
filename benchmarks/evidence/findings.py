"""What follows for users: sentences whose numbers, and whose choice of words, come from the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import settings
from .cases import ALONE, BARE, CHOOSE, FOUR, INDEPENDENT, REPORT, SHARED_START, SIMILAR_STYLES, THREE
from .results import Results
from .settings import Setting, method_of
from .statistics import FEWEST, Estimate, difference
from .summary import SUM, Row, both, outcomes, row, rows
from .text import listed, percent, verdict

MEANS = ("ties_svd", "dare_ties_svd", "della_svd", "sce_svd", "karcher_svd")


def size_of_run(results: Results) -> str:
    about = results.about
    merged = [one for one in results.evaluations if one.stratum not in (ALONE, BARE)]
    loras = {name.rpartition(":")[0].partition("_cut")[0] for one in results.evaluations for name in one.loras}
    pairs = {one.pair for one in merged if (one.stratum, one.half) == (INDEPENDENT, REPORT)}
    seeds = {one.seed for one in merged if (one.stratum, one.half) == (INDEPENDENT, REPORT)}
    pictures = len(merged[0].concept) if merged else 0
    choosing = {one.pair for one in merged if (one.stratum, one.half) == (INDEPENDENT, CHOOSE)}
    return (
        f"This run ({about['scale']}): {len(loras)} LoRAs, {len(merged)} merges, {pictures} pictures of each; "
        f"{len(pairs)} pairs of a concept and a style for reporting, with {len(seeds)} "
        f"{'seeds' if len(seeds) != 1 else 'seed'} of LoRAs, and {len(choosing)} for choosing; {about['minutes']} "
        f"minutes on {about['machine']}. A concept LoRA learned from {about['fonts']} fonts, a style LoRA from "
        f"{about['letters']} letters, each in {about['lora_steps']} steps."
    )


def findings(results: Results) -> list[str]:
    return [line for each in _ALL for line in each(results)]


def _sum(results: Results) -> Iterator[str]:
    found = row(results, INDEPENDENT, REPORT, SUM)
    if found:
        yield (
            f"**The exact sum is a strong start**: `{SUM}`, the same picture as loading the LoRAs one after the other, "
            f"shows both in {percent(found.both.mean)} of the pictures ({percent(found.both.low)} to "
            f"{percent(found.both.high)}), {percent(found.normalised)} of what the LoRAs reach alone."
        )


def _defaults(results: Results) -> Iterator[str]:
    found = rows(results, INDEPENDENT, REPORT, [one.key for one in settings.defaults()])
    others = [one for one in found if one.setting != SUM]
    if not others:
        return
    better = [one.setting for one in others if one.to_sum.is_different and one.to_sum.mean > 0]
    worse = [one.setting for one in others if one.to_sum.is_different and one.to_sum.mean < 0]
    first = f"Better than it at their defaults: {listed(better)}." if better else "No mode beats it at its defaults."
    yield (
        f"**{first}** Worse: {listed(worse)}. The other {len(others) - len(better) - len(worse)} are no different on "
        f"{others[0].to_sum.pairs} pairs."
    )


def _means(results: Results) -> Iterator[str]:
    clauses = []
    for mode in ("ties_svd", "karcher_svd"):
        before = row(results, INDEPENDENT, REPORT, mode)
        after = row(results, INDEPENDENT, REPORT, Setting(mode, rule="sum").key)
        if before and after:
            gain = _between(results, REPORT, Setting(mode, rule="sum").key, mode)
            clauses.append(
                f"`{mode}` shows both in {percent(before.both.mean)} at its defaults and in {percent(after.both.mean)} "
                f"with it, {_verdict(gain)} than before and {verdict(after.to_sum)} than the exact sum"
            )
    if clauses:
        yield f"**Means need the strength rule *of the sum***: {'; '.join(clauses)}."


def _strength(results: Results) -> Iterator[str]:
    found = {strength: row(results, INDEPENDENT, CHOOSE, Setting(SUM, strength=strength).key)
             for strength in sorted({1.0, *settings.STRENGTHS})}  # fmt: skip
    known = {strength: one for strength, one in found.items() if one}
    if len(known) > 1:
        values = ", ".join(f"{strength:g}: {percent(one.both.mean)}" for strength, one in known.items())
        best = max(known, key=lambda strength: known[strength].both.mean)
        damage = ", ".join(f"{strength:g}: {percent(one.known)}" for strength, one in known.items())
        yield (
            f"**Strength first**: over the strength of both LoRAs, `{SUM}` shows both in {values}. Best is {best:g}; "
            f"the known pairs are right in {damage}."
        )


def _density(results: Results) -> Iterator[str]:
    low, high = min(settings.DENSITIES), max(settings.DENSITIES)
    changes: list[tuple[str, Estimate]] = []
    for mode in settings.MODES:
        if method_of(mode).uses_density:
            keys = (settings.at_its_best_rule(mode, density=density).key for density in (low, high))
            change = _between(results, CHOOSE, *keys)
            if change:
                changes.append((mode, change))
    if changes:
        lower = [mode for mode, change in changes if change.mean < 0]
        most = min(changes, key=lambda each: each[1].mean)
        yield (
            f"**Density**: {low:g} in place of {high:g} lowers both in {len(lower)} of {len(changes)} modes, most in "
            f"`{most[0]}`: there it is {verdict(most[1])}."
        )


def _rank(results: Results) -> Iterator[str]:
    found = {rank: row(results, INDEPENDENT, CHOOSE, Setting("add_svd", rank=rank).key) for rank in settings.RANKS}
    known = {rank: one for rank, one in found.items() if one}
    if known:
        clauses = "; ".join(f"at rank {rank} {verdict(one.to_sum)}" for rank, one in known.items())
        yield (
            f"**Output rank**: the sum of two LoRAs of rank 8 has rank 16. Cut by `add_svd`, both is {clauses}, "
            "compared with the exact sum."
        )


def _weights(results: Results) -> Iterator[str]:
    average = row(results, INDEPENDENT, CHOOSE, Setting(SUM, weights="average").key)
    energy = row(results, INDEPENDENT, CHOOSE, Setting(SUM, weights="energy").key)
    if average and energy:
        yield (
            f"**Weights**: *average* halves two LoRAs, and both is {verdict(average.to_sum)} than with the strengths "
            f"as given; with *equal energy* it is {verdict(energy.to_sum)}."
        )


def _overlap(results: Results) -> Iterator[str]:
    clauses = []
    for stratum, name in ((SHARED_START, "that started from the same factors"), (SIMILAR_STYLES, "of similar styles")):
        sums = row(results, stratum, REPORT, SUM)
        others = [one for one in _strata_rows(results, stratum) if one.setting != SUM]
        if sums and others:
            reached = f"LoRAs {name} reach {percent(sums.both.mean)} by the exact sum ({sums.both.pairs} pairs)"
            clauses.append(f"{reached}. {_better_and_worse(others)}")
    if clauses:
        yield "**Overlap**: " + " ".join(clauses)


def _several(results: Results) -> Iterator[str]:
    found = [(name, row(results, stratum, REPORT, SUM), _strata_rows(results, stratum))
             for stratum, name in ((THREE, "three"), (FOUR, "four"))]  # fmt: skip
    clauses = [
        f"{name} LoRAs reach {percent(one.both.mean)} ({_better_and_worse([o for o in others if o.setting != SUM])})"
        for name, one, others in found
        if one
    ]
    if clauses:
        yield "**More LoRAs, less of each**: by the exact sum, " + "; ".join(clauses).replace(".)", ")") + "."


def _damage(results: Results) -> Iterator[str]:
    found = rows(results, INDEPENDENT, REPORT, [one.key for one in settings.defaults()])
    sums = next((one for one in found if one.setting == SUM), None)
    if sums and len(found) > 1:
        kept = sorted(found, key=lambda one: one.known)
        yield (
            f"**What the base knew**: {percent(results.about['known'])} of the known pairs are right without a LoRA, "
            f"{percent(sums.known)} with the exact sum; from {percent(kept[0].known)} (`{kept[0].setting}`) to "
            f"{percent(kept[-1].known)} (`{kept[-1].setting}`) in the other modes."
        )


_ALL = (_sum, _defaults, _means, _strength, _density, _rank, _weights, _overlap, _several, _damage)


def _strata_rows(results: Results, stratum: str) -> list[Row]:
    return rows(results, stratum, REPORT, [one.key for one in settings.of_strata()])


def _better_and_worse(others: Sequence[Row]) -> str:
    better = [_name(one.setting) for one in others if one.to_sum.is_different and one.to_sum.mean > 0]
    worse = [_name(one.setting) for one in others if one.to_sum.is_different and one.to_sum.mean < 0]
    if others and others[0].to_sum.pairs < FEWEST:
        best = max(others, key=lambda one: one.both.mean)
        return f"Of the others {listed([_name(best.setting)])} shows both most often, in {percent(best.both.mean)}."
    return f"Better: {listed(better)}. Worse: {listed(worse)}." if better or worse else "No other mode differs."


def _name(key: str) -> str:
    one = settings.setting_of(key)
    return f"{one.mode}, {one.label}" if one.label else one.mode


def _between(results: Results, half: str, setting: str, reference: str) -> Estimate | None:
    """The paired difference of both between two settings on independent LoRAs."""
    found = [outcomes(results.of(INDEPENDENT, half, key), both) for key in (setting, reference)]
    return difference(found[0], found[1])


def _verdict(one: Estimate | None) -> str:
    return verdict(one) if one else "not compared"
