"""The data of an inspection's picture: plain lists, numbers and texts, which pictures/inspection.py draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..names.roles import role_order
from .advice import advice, amount_shared
from .advice import overlaps as is_overlap
from .inspect import Inspection
from .loras import LoraNumbers
from .pairs import PairNumbers
from .places import Place
from .weight_pairs import WeightPair
from .weights import PERCENTS
from .wording import NOT_MEASURED, cosine, letters, number, percent

# More would make a picture that nobody can read on a node; the report has all.
MOST_MAPS = 6
MOST_OVERLAPS = 3
# The cosine that gets the full colour, unless there are larger ones.
FULL_COLOUR = 0.2

# A row (role) and a column (block) of a map.
Cell = tuple[str, str]


def figure_of(inspection: Inspection) -> Any:
    """Data for pictures.inspection.draw_inspection.

    In ``cells`` None is a cell that no weight lies in, and NaN one that isn't measured.
    """
    labels = letters(len(inspection.loras)) if len(inspection.loras) > 1 else [""]
    shown = inspection.loras[:MOST_MAPS]
    drawn = _drawn(inspection.pairs, len(shown))
    maps = [_energy_cells(lora) for lora in shown]
    overlaps = [_cosine_cells(pair, shown[pair.first], shown[pair.second]) for pair in drawn]
    compared = sum(pair.problem is None for pair in inspection.pairs)
    return {
        "sentence": advice(inspection, labels if labels[0] else ["this LoRA"])[0],
        "loras": [
            {"label": label, "name": lora.name, "facts": _facts(lora)}
            for label, lora in zip(labels, inspection.loras, strict=True)
        ],
        "maps": [
            {"label": label, **_grid(cells, _of_model(lora.model, shown))}
            for label, lora, cells in zip(labels, shown, maps, strict=False)
            if lora.weights  # block weights may have removed them all
        ],
        "most": _largest(maps),
        "overlaps": [
            {
                "title": f"{labels[pair.first]} and {labels[pair.second]}: cosine {cosine(pair.cosine)}",
                "subtitle": _chances(pair),
                **_grid(cells, _of_model(shown[pair.first].model, shown)),
            }
            for pair, cells in zip(drawn, overlaps, strict=True)
        ],
        "most_overlap": max(FULL_COLOUR, _largest(overlaps)),
        "curves": [
            {"label": label, "kept": list(lora.kept), "marks": [*zip(PERCENTS, lora.rank_for, strict=True)]}
            for label, lora in zip(labels, shown, strict=False)
            if lora.rank_for is not None
        ],
        "left_out": _left_out(len(inspection.loras) - len(shown), compared - len(drawn)),
    }


def _of_model(model: str | None, loras: Sequence[LoraNumbers]) -> list[Place]:
    """The places of the weights of all LoRAs that are for this model, or may be: they share rows and columns."""
    known = {lora.model for lora in loras if lora.model is not None}
    return [place for lora in loras if len(known) < 2 or lora.model == model for place in lora.places.values()]


def _grid(cells: Mapping[Cell, float], places: Sequence[Place]) -> dict[str, Any]:
    """The cells in rows and columns, with their names."""
    rows = sorted({place.role for place in places}, key=role_order)
    columns = list({place.block: place for place in sorted(places, key=lambda place: place.order)}.values())
    return {
        "rows": rows,
        "columns": [
            {"group": column.group, "number": column.number, "apart": column.is_text_encoder} for column in columns
        ],
        "cells": [[cells.get((role, column.block)) for column in columns] for role in rows],
    }


def _facts(lora: LoraNumbers) -> list[tuple[str, str]]:
    unmeasured = f" ({len(lora.unmeasured)} {NOT_MEASURED})" if lora.unmeasured else ""
    return [
        ("norm", number(lora.norm)),
        ("rank", _rank(lora)),
        ("effective rank", number(lora.effective_rank)),
        ("modules", f"{len(lora.weights)}{unmeasured}"),
    ]


def _rank(lora: LoraNumbers) -> str:
    if lora.rank is None:
        return NOT_MEASURED
    return str(lora.rank) if lora.has_one_rank else f"up to {lora.rank}"


def _energy_cells(lora: LoraNumbers) -> dict[Cell, float]:
    """Of each cell, the share of the energy that each of its weights has on average."""
    found: dict[Cell, float] = {}
    for key, part in lora.parts(lambda place: (place.role, place.block)).items():
        assert isinstance(key, tuple)
        found[key] = part.share / part.count if part.count else math.nan
    return found


def _cosine_cells(pair: PairNumbers, first: LoraNumbers, second: LoraNumbers) -> dict[Cell, float]:
    of_both = {(place.role, place.block) for place in first.places.values()}
    of_both &= {(place.role, place.block) for place in second.places.values()}
    cells: dict[Cell, list[WeightPair]] = {}
    for key, weight in pair.weights.items():
        place = pair.places[key]
        cells.setdefault((place.role, place.block), []).append(weight)
    return dict.fromkeys(of_both, math.nan) | {cell: _cosine(weights) for cell, weights in cells.items()}


def _cosine(weights: Iterable[WeightPair]) -> float:
    """The cosine of two LoRAs over some weights; 0 where one of them is zero, so that they don't affect each other."""
    weights = list(weights)
    first, second = (sum(weight.energies[side] for weight in weights) for side in (0, 1))
    scale = math.sqrt(first) * math.sqrt(second)
    return sum(weight.inner for weight in weights) / scale if scale > 0 else 0.0


def _largest(maps: Sequence[Mapping[Cell, float]]) -> float:
    return max((abs(value) for cells in maps for value in cells.values() if math.isfinite(value)), default=0.0)


def _drawn(pairs: Sequence[PairNumbers], loras: int) -> list[PairNumbers]:
    """The pairs to draw a map of: of several, those that overlap, or else the one that comes closest to it."""
    possible = [pair for pair in pairs if pair.weights and pair.second < loras]
    possible.sort(key=lambda pair: max(abs(pair.cosine or 0.0), amount_shared(pair)), reverse=True)
    overlapping = [pair for pair in possible if is_overlap(pair)]
    return sorted(overlapping[:MOST_OVERLAPS] or possible[:1], key=lambda pair: (pair.first, pair.second))


def _chances(pair: PairNumbers) -> str:
    """The numbers that only mean something beside chance."""
    parts = [f"signs differ in {percent(pair.sign_conflict)} (chance {percent(pair.sign_conflict_by_chance)})"]
    if pair.inside is not None:
        shares = (f"{side.name}s {percent(side.share)} (chance {percent(side.chance)})" for side in pair.inside.sides)
        parts.insert(0, f"shared {', '.join(shares)}")
    return "; ".join(parts)


def _left_out(loras: int, pairs: int) -> str:
    counts = ((loras, "LoRA"), (pairs, "pair"))
    parts = [f"{count} more {what}{'s' * (count > 1)}" for count, what in counts if count > 0]
    return f"{' and '.join(parts)} in the report" if parts else ""
