"""A search for strengths, as PM Find Strengths makes it, outside ComfyUI.

The pack's own search and score; the base's autoencoder stands in for the image encoder, which the repository hasn't.
"""

from __future__ import annotations

import importlib
import sys
import types
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from .drawing import CONCEPT, OTHER_BOTH, OTHER_STYLE, ROOT, SEED, base, drawn
from .sheet import sheet
from .strengths import at

BUDGET = 40
COLUMNS = 5
Point = tuple[float, ...]
ALONE: dict[str, Point] = {"no LoRA": (0.0, 0.0), "concept": (1.0, 0.0), "style": (0.0, 1.0)}


def from_pack(module: str) -> Any:
    """A module of the pack, without running the __init__.py files above it, which need ComfyUI."""
    for name, folder in (("pack", ROOT), ("pack.xy", ROOT / "xy")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules.setdefault(name, package)
    return importlib.import_module(f"pack.{module}")


@cache
def pictured(strengths: Point, seed: int) -> Image.Image:
    loras = [at(lora, strength) for lora, strength in zip((CONCEPT, OTHER_STYLE), strengths, strict=True)]
    return drawn(loras, (OTHER_BOTH,), SEED + seed)[0]


def embedded(picture: Image.Image) -> Tensor:
    return base().encode(np.asarray(picture, dtype=np.float32)[None] / 255).flatten()


def searched(budget: int = BUDGET) -> Any:
    """A search that has spent its budget."""
    scoring = from_pack("xy.scoring")
    search = from_pack("xy.search").Search(2, 0.0, 1.0, budget)
    known = [
        scoring.References.of([embedded(pictured(strengths, seed)) for strengths in ALONE.values()])
        for seed in range(search.plan.seeds)
    ]
    trials = search.trials()
    trial = next(trials, None)
    while trial is not None:
        score = scoring.score(embedded(pictured(trial.strengths, trial.seed)), known[trial.seed])
        try:
            trial = trials.send(score)
        except StopIteration:
            trial = None
    return search


def search(budget: int = BUDGET) -> Image.Image:
    """Pictures to compare with, then those of the search in its order, with the first seed; the best has a frame."""
    found = searched(budget)
    captions = {
        point: f"{point[0]:.2f} {point[1]:.2f}: {np.mean(scores):.2f}" for point, scores in found.scores.items()
    }
    cells: list[tuple[Point, str] | None] = [(point, name) for name, point in ALONE.items()]
    cells += [None] * (COLUMNS - len(cells))
    place = len(cells) + list(captions).index(found.best())
    cells += captions.items()
    cells += [None] * (-len(cells) % COLUMNS)
    columns = [cells[column::COLUMNS] for column in range(COLUMNS)]
    return sheet(
        [[pictured(cell[0], 0) if cell else None for cell in column] for column in columns],
        below=[[cell[1] if cell else "" for cell in column] for column in columns],
        frame=(place % COLUMNS, place // COLUMNS),
    )


PICTURES = {"PM_LoRA_Find_Strengths": search}
