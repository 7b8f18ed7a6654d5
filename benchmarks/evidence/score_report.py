"""The page's sections on the score and on PM Find Strengths, from what a run found out about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .results import Results
from .scores import PACKS
from .statistics import FEWEST
from .strengths import DEFAULT_HIGH, GIVEN, GRID, LOW, SEARCH, SEARCHES, SEEDS_GRID
from .text import TEXT, percent, points, table
from .validation import PLOT, SEEDS

Interval = Sequence[float]  # mean, low, high


def score_sections(results: Results) -> list[str]:
    scores, searches = results.about.get("scores"), results.about.get("searches")
    blocks = ["## Does the score agree with the judges?", TEXT["score"].strip().format(cells=PLOT)]
    if scores:
        blocks += [_verdict(scores), _references(scores), TEXT["formulas"].strip(), _formulas(scores)]
    else:
        blocks.append("This run didn't reach it.")
    blocks += ["## Finding strengths with as many pictures", TEXT["search"].strip().format(low=LOW, high=DEFAULT_HIGH)]
    return [*blocks, _searches(searches or {})]


def _verdict(scores: Mapping[str, Any]) -> str:
    """Which references the score needs to be of use, in a sentence; none of fewer than FEWEST pairs."""
    if min(row[str(SEEDS[-1])]["gain"][3] for row in scores["references"].values()) < FEWEST:
        return f"These are fewer than {FEWEST} pairs, too few for a verdict."
    useful = [kind for kind, row in scores["references"].items() if row[str(SEEDS[-1])]["gain"][1] > 0]
    useless = [kind for kind in scores["references"] if kind not in useful]
    if not useful:
        return "**With no kind of references does the score's best cell beat a cell at random for certain.**"
    text = f"**The score's best cell beats a cell at random with these references: {'; '.join(useful)}.**"
    return text + (f" It doesn't for certain with: {'; '.join(useless)}." if useless else "")


def _references(scores: Mapping[str, Any]) -> str:
    lines = []
    for kind, row in scores["references"].items():
        picks = [f"{percent(row[str(seeds)]['score'][0])}, {_gain(row[str(seeds)]['gain'])}" for seeds in SEEDS]
        lines.append((kind, _correlation(row["settings"]), _correlation(row["modes"]), *picks))
    some = next(iter(scores["references"].values()))
    for who, name in (("judges", "*the judges, on the plot's pictures*"), ("chance", "*a cell at random*")):
        lines.append((name, "", "", *(percent(some[str(seeds)][who][0]) for seeds in SEEDS)))
    plots = [f"picked from one plot of {seeds} noise{'s' * (seeds > 1)}" for seeds in SEEDS]
    heads = ("references", f"{scores['settings']} settings of a pair", f"{scores['modes']} modes", *plots)
    return table(heads, lines)


def _formulas(scores: Mapping[str, Any]) -> str:
    lines = [
        (f"**{name}**" if name == PACKS else name, _correlation(row["settings"]), _correlation(row["modes"]))
        for name, row in scores["formulas"].items()
    ]
    return table(("formula", f"{scores['settings']} settings of a pair", f"{scores['modes']} modes"), lines)


def _searches(searches: Mapping[str, Any]) -> str:
    lines = []
    for wanted in SEARCHES:
        for way in (SEARCH, GRID, SEEDS_GRID, GIVEN) if wanted.key in searches else ():
            row = searches[wanted.key][way]
            gain = "" if way == SEARCH else _gain(row["search"])
            about = (f"`{wanted.mode}`", f"{wanted.high:g}", str(wanted.budget), "given" if wanted.given else "sampled")
            lines.append((*about, _NAMES[way], str(row["pictures"] or "none"), _rate(row["both"]), gain))
    heads = ("mode", "up to", "budget", "references", "strengths by", "pictures", "both", "PM Find Strengths, to it")
    return table(heads, lines)


_NAMES = {SEARCH: "PM Find Strengths", GRID: "a grid", SEEDS_GRID: "a grid on three noises", GIVEN: "1 for each LoRA"}


def _correlation(of: Interval) -> str:
    return f"{of[0]:.2f} ({of[1]:.2f} to {of[2]:.2f})"


def _rate(of: Interval) -> str:
    return f"{percent(of[0])} ({percent(of[1])} to {percent(of[2])})"


def _gain(of: Interval) -> str:
    inside = f"({points(of[1])} to {points(of[2])})"
    return f"**{points(of[0])} {inside}**" if of[1] > 0 or of[2] < 0 else f"no difference {inside}"
