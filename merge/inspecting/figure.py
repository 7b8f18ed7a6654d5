"""The data of an inspection's picture: plain lists, numbers and texts, which pictures/inspection.py draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..names.roles import role_order
from .advice import advice
from .inspect import Inspection
from .loras import LoraNumbers
from .pairs import PairNumbers
from .places import Place
from .weight_pairs import WeightPair
from .weights import PERCENTS
from .wording import letters, number, percent

# More would make a picture that nobody can read on a node; the report has all.
MOST_MAPS = 6
MOST_OVERLAPS = 3
# The cosine that gets the full colour, unless there are larger ones.
FULL_COLOUR = 0.2

# A row (role) and a column (block) of a map.
Cell = tuple[str, str]


def figure_of(inspection: Inspection) -> dict[str, Any]:
    """Data for pictures.inspection.draw_inspection.

    In ``cells`` None is a cell that no weight lies in, and NaN one that isn't measured.
    """
    labels = letters(len(inspection.loras))
    shown = inspection.loras[:MOST_MAPS]
    places = [place for lora in shown for place in lora.places.values()]
    rows = sorted({place.role for place in places}, key=role_order)
    columns = list({place.block: place for place in sorted(places, key=lambda place: place.order)}.values())
    names = labels if len(labels) > 1 else [inspection.loras[0].name]

    def grid(cells: Mapping[Cell, float]) -> list[list[float | None]]:
        return [[cells.get((role, column.block)) for column in columns] for role in rows]

    maps = [grid(_energy_cells(lora)) for lora in shown]
    pairs = sorted((pair for pair in inspection.pairs if pair.weights), key=_interest, reverse=True)
    drawn = sorted(pairs[:MOST_OVERLAPS], key=lambda pair: (pair.first, pair.second))
    drawn = [pair for pair in drawn if pair.second < len(shown)]
    overlaps = [grid(_cosine_cells(pair)) for pair in drawn]
    return {
        "sentence": advice(inspection, names)[0],
        "loras": [
            {"label": label if len(labels) > 1 else "", "name": lora.name, "facts": _facts(lora)}
            for label, lora in zip(labels, inspection.loras, strict=True)
        ],
        "rows": rows,
        "columns": [
            {"group": column.group, "number": column.number, "apart": column.is_text_encoder} for column in columns
        ],
        "maps": [{"label": labels[i] if len(labels) > 1 else "", "cells": cells} for i, cells in enumerate(maps)],
        "most": _largest(maps),
        "overlaps": [
            {"title": _pair_title(pair, labels), "cells": cells} for pair, cells in zip(drawn, overlaps, strict=True)
        ],
        "most_overlap": max(FULL_COLOUR, _largest(overlaps)),
        "curves": [
            {"label": label, "kept": list(lora.kept), "marks": [*zip(PERCENTS, lora.rank_for, strict=True)]}
            for label, lora in zip(labels, shown, strict=False)
            if lora.rank_for is not None
        ],
        "left_out": _left_out(len(inspection.loras) - len(shown), len(inspection.pairs) - len(drawn)),
    }


def _facts(lora: LoraNumbers) -> list[tuple[str, str]]:
    return [
        ("norm", number(lora.norm)),
        ("rank", "none" if lora.rank is None else str(lora.rank)),
        ("effective rank", number(lora.effective_rank)),
        ("modules", str(len(lora.weights))),
    ]


def _energy_cells(lora: LoraNumbers) -> dict[Cell, float]:
    """Of each cell, the share of the energy that each of its weights has on average."""
    found: dict[Cell, float] = {}
    for key, part in lora.parts(lambda place: (place.role, place.block)).items():
        assert isinstance(key, tuple)
        found[key] = part.share / part.count if part.count else math.nan
    return found


def _cosine_cells(pair: PairNumbers) -> dict[Cell, float]:
    cells: dict[Cell, list[WeightPair]] = {}
    for key, weight in pair.weights.items():
        place: Place = pair.places[key]
        cells.setdefault((place.role, place.block), []).append(weight)
    return {cell: _cosine(weights) for cell, weights in cells.items()}


def _cosine(weights: Iterable[WeightPair]) -> float:
    """The cosine of two LoRAs over some weights; NaN where one of the two is zero."""
    weights = list(weights)
    first, second = (sum(weight.energies[side] for weight in weights) for side in (0, 1))
    scale = math.sqrt(first) * math.sqrt(second)
    return sum(weight.inner for weight in weights) / scale if scale > 0 else math.nan


def _largest(grids: Sequence[Sequence[Sequence[float | None]]]) -> float:
    numbers = (abs(x) for grid in grids for row in grid for x in row if x is not None and math.isfinite(x))
    return max(numbers, default=0.0)


def _interest(pair: PairNumbers) -> float:
    shares: Callable[[Any], float] = lambda one: max(side.above_chance for side in one.sides)  # noqa: E731
    return max([abs(pair.cosine or 0.0), *(shares(one) for one in (pair.inside, pair.around) if one)])


def _pair_title(pair: PairNumbers, labels: Sequence[str]) -> str:
    title = f"{labels[pair.first]} and {labels[pair.second]}"
    if pair.cosine is None:
        return title
    return f"{title}: cosine {pair.cosine:.3f}, signs differ in {percent(pair.sign_conflict)}"


def _left_out(loras: int, pairs: int) -> str:
    parts = [f"{count} more {what}" for count, what in ((loras, "LoRAs"), (pairs, "pairs")) if count > 0]
    return f"{' and '.join(parts)} in the report" if parts else ""
