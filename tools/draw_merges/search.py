"""A search for strengths, as PM Find Strengths makes it, and what PM Reference Pictures samples, outside ComfyUI.

The pack's own search and score, and the benchmark's image encoder, which has seen neither the concept nor the style.
The references are given: pictures of each LoRA alone, with the prompts that it was trained for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from benchmarks.evidence import image_encoder
from benchmarks.evidence.pack import part_of_pack

from .drawing import CONCEPT, CONCEPT_ALONE, OTHER_BOTH, OTHER_STYLE, OTHER_STYLE_ALONE, SEED, drawn
from .sheet import sheet
from .strengths import at

BUDGET = 30
COLUMNS = 5
Point = tuple[float, ...]
# what the references show: a caption, the LoRA, its prompts
REFERENCES = (
    ("no LoRA", None, ("letter a in lobster", "letter k in bungee", "letter r in anton", "letter g in caveat")),
    ("concept", CONCEPT, ("sign ? in lobster", "sign ? in bungee", "sign ? in anton", "sign ? in caveat")),
    (
        "style",
        OTHER_STYLE,
        ("letter a in pacific", "letter k in pacific", "letter r in pacific", "letter g in pacific"),
    ),
)


@cache
def pictured(strengths: Point, seed: int) -> Image.Image:
    loras = [at(lora, strength) for lora, strength in zip((CONCEPT, OTHER_STYLE), strengths, strict=True)]
    return drawn(loras, (OTHER_BOTH,), SEED + seed)[0]


@cache
def references() -> list[list[Image.Image]]:
    """Without LoRAs, of the concept alone, of the style alone."""
    return [drawn([] if lora is None else [at(lora, 1.0)], prompts, SEED) for _, lora, prompts in REFERENCES]


@cache
def encoder() -> image_encoder.ImageEncoder:
    return image_encoder.load()


def embedded(picture: Image.Image) -> Tensor:
    return encoder().embed(np.asarray(picture, dtype=np.float32)[None] / 255)[0]


def searched(budget: int = BUDGET) -> Any:
    """A search that has spent its budget."""
    scoring = part_of_pack("xy.scoring")
    search = part_of_pack("xy.search").Search(2, 0.0, 1.0, budget, given=True)
    known = scoring.References.of([[embedded(picture) for picture in kind] for kind in references()])
    search.run(lambda trial: scoring.score(embedded(pictured(trial.strengths, trial.seed)), known))
    return search


def search(budget: int = BUDGET) -> Image.Image:
    """A picture of each kind to compare with, then those of the search in its order, of the first seed."""
    found = searched(budget)
    captions = {
        point: f"{point[0]:.2f} {point[1]:.2f}: {np.mean(scores):.2f}" for point, scores in found.scores.items()
    }
    cells: list[tuple[Image.Image, str] | None]
    cells = [(kind[0], name) for kind, (name, _, _) in zip(references(), REFERENCES, strict=True)]
    cells += [None] * (COLUMNS - len(cells))
    place = len(cells) + list(captions).index(found.best())
    cells += [(pictured(point, 0), caption) for point, caption in captions.items()]
    cells += [None] * (-len(cells) % COLUMNS)
    columns = [cells[column::COLUMNS] for column in range(COLUMNS)]
    return sheet(
        [[cell[0] if cell else None for cell in column] for column in columns],
        below=[[cell[1] if cell else "" for cell in column] for column in columns],
        frame=(place % COLUMNS, place // COLUMNS),
    )


def reference_pictures(pictures: int = 4) -> Image.Image:
    """What PM Reference Pictures samples: a row for each kind, a column for each seed."""
    loras = {"concept": (CONCEPT, CONCEPT_ALONE), "style": (OTHER_STYLE, OTHER_STYLE_ALONE)}
    in_turn = [prompt for _, prompt in loras.values()]
    columns = []
    for number in range(pictures):
        none = drawn([], [in_turn[number % len(in_turn)]], SEED + number)
        columns.append(none + [drawn([lora], [prompt], SEED + number)[0] for lora, prompt in loras.values()])
    return sheet(columns, [f"seed {SEED + number}" for number in range(pictures)], ["no LoRA", *loras])


PICTURES = {"PM_LoRA_Find_Strengths": search, "PM_LoRA_References": reference_pictures}
