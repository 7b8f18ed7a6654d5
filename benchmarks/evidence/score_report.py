"""The page's sections on the score and on PM Find Strengths, from what a run found out about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .results import Results
from .scores import PACKS
from .strengths import GIVEN, GRID, HIGH, LOW, SEARCH, SEEDS_GRID
from .text import TEXT, percent, points, table
from .validation import PLOT

Interval = Sequence[float]  # mean, low, high


def score_sections(results: Results) -> list[str]:
    blocks = ["## Does the score agree with the judges?", TEXT["score"].strip()]
    found = results.about.get("scores")
    blocks += _score(found) if found else ["This run didn't reach it."]
    blocks += ["## Finding strengths with as many pictures", TEXT["search"].strip().format(low=LOW, high=HIGH)]
    searches = results.about.get("searches")
    blocks += [_searches_table(searches)] if searches else ["This run didn't reach it."]
    return blocks


def _score(found: Mapping[str, Any]) -> list[str]:
    formulas = [
        (f"**{name}**" if name == PACKS else name, _correlation(rows["settings"]), _correlation(rows["modes"]))
        for name, rows in found["formulas"].items()
    ]
    heads = ("formula", f"{found['settings']} settings of a pair", f"{len(found['modes'])} modes")
    picks = [
        (f"{seeds} noise{'s' if seeds != '1' else ''}", *(_rate(rows[who]) for who in ("chance", "score", "judges")),
         _gain(rows["gain"]))
        for seeds, rows in found["picks"].items()
    ]  # fmt: skip
    pick_heads = ("plot of", "a cell at random", "the score's best", "the judges' best", "score, to random")
    return [table(heads, formulas), TEXT["picks"].strip().format(cells=PLOT), table(pick_heads, picks)]


def _searches_table(searches: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for one in searches:
        for way in (SEARCH, GRID, SEEDS_GRID, GIVEN):
            row = one["ways"][way]
            gain = "" if way == SEARCH else _gain(row["search"])
            pictures = str(row["pictures"] or "none")
            lines.append((f"`{one['mode']}`", str(one["budget"]), _NAMES[way], pictures, _rate(row["both"]), gain))
    return table(("mode", "budget", "strengths by", "pictures", "both", "PM Find Strengths, to it"), lines)


_NAMES = {SEARCH: "PM Find Strengths", GRID: "a grid", SEEDS_GRID: "a grid on three noises", GIVEN: "1 for each LoRA"}


def _correlation(of: Interval) -> str:
    return f"{of[0]:.2f} ({of[1]:.2f} to {of[2]:.2f})"


def _rate(of: Interval) -> str:
    return f"{percent(of[0])} ({percent(of[1])} to {percent(of[2])})"


def _gain(of: Interval) -> str:
    inside = f"({points(of[1])} to {points(of[2])})"
    return f"**{points(of[0])} {inside}**" if of[1] > 0 or of[2] < 0 else f"no difference {inside}"
