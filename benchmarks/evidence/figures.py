"""The report's plots: both over strength, density and output rank, on the pairs for choosing."""

from __future__ import annotations

from collections.abc import Callable

from . import plots, settings
from .cases import CHOOSE, INDEPENDENT
from .plots import Panel, Point
from .results import Results
from .settings import Setting
from .statistics import estimate
from .summary import SUM, both, outcomes


def figures(results: Results) -> dict[str, str]:
    """SVGs by name."""
    strength = {
        mode: _points(results, lambda x, mode=mode: settings.at_its_best_rule(mode, strength=x), _STRENGTHS)
        for mode in settings.MODES
    }
    density = {
        mode: _points(results, lambda x, mode=mode: _with(mode, "density", x, settings.DENSITY), _DENSITIES)
        for mode in settings.MODES
        if settings.method_of(mode).uses_density
    }
    rank = {
        mode: _points(results, lambda x, mode=mode: _with(mode, "rank", int(x), settings.RANK), _RANKS)
        for mode in settings.RANK_MODES
    }
    level = Panel(SUM, _points(results, lambda _: Setting(SUM), (1.0,)))
    return {
        "strength": plots.draw(
            f"Pictures that show both, over the strength of the LoRAs (grey: {SUM})",
            *("strength", _panels(strength), Panel(SUM, strength.get(SUM, []))),
        ),
        "density": plots.draw(
            f"Pictures that show both, over the density (grey: {SUM})", "density", _panels(density), level
        ),
        "rank": plots.draw(
            f"Pictures that show both, over the rank of the result (grey: {SUM})",
            *("rank", _panels(rank), level, True),
        ),
    }


_STRENGTHS = tuple(sorted({*settings.STRENGTHS, 1.0}))
_DENSITIES = tuple(sorted({*settings.DENSITIES, settings.DENSITY}))
_RANKS = tuple(sorted({*settings.RANKS, settings.RANK}))


def _with(mode: str, name: str, value: float, default: float) -> Setting:
    return settings.at_its_best_rule(mode, **({} if value == default else {name: value}))


def _points(results: Results, setting_at: Callable[[float], Setting], values: tuple[float, ...]) -> list[Point]:
    points = []
    for value in values:
        found = estimate(outcomes(results.of(INDEPENDENT, CHOOSE, setting_at(value).key), both))
        if found is not None:
            points.append(Point(value, round(found.mean, 4), round(found.low, 4), round(found.high, 4)))
    return points


def _panels(curves: dict[str, list[Point]]) -> list[Panel]:
    return [Panel(mode, points) for mode, points in curves.items() if points]
