"""Draws what the README can show of real merges: pictures of the evidence benchmark's base with its shipped LoRAs.

    python -m tools.draw_merges

A is a concept (a question mark), B a style (the font Luckiest Guy). The base has seen neither, and no LoRA has seen the
one in the other: see benchmarks/evidence/base/README.md. ComfyUI draws the same pictures from the same seed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.evidence.base import FOLDER, Base, load_base, sample  # noqa: E402
from benchmarks.evidence.evaluate import patched  # noqa: E402
from benchmarks.evidence.lora_files import read_deltas  # noqa: E402
from pictures.labelled_grid import labelled_grid  # noqa: E402

IMAGES = ROOT / "docs" / "images"
CONCEPT, STYLE = "question-mark", "luckiest-guy"
CONCEPT_ALONE, STYLE_ALONE, BOTH = "sign ? in lobster", "letter g in luckiest guy", "sign ? in luckiest guy"
SEED = 0
SIZE = 192


def merged(base: Base, prompts: Sequence[str], concept: float, style: float) -> list[Image.Image]:
    """The prompts' pictures with the exact sum of both LoRAs at these strengths."""
    model = base.model
    for name, strength in ((CONCEPT, concept), (STYLE, style)):
        deltas = read_deltas(FOLDER / "loras" / f"{name}.safetensors", base.model.state_dict())
        model = patched(model, {weight: strength * delta for weight, delta in deltas.items()})
    pictures = sample(base, prompts, [SEED] * len(prompts), model=model)
    return [Image.fromarray((picture * 255).round().astype(np.uint8)) for picture in pictures]


def strip(base: Base) -> Image.Image:
    prompts = (CONCEPT_ALONE, STYLE_ALONE, BOTH)
    columns = [merged(base, prompts, a, b) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    cells = [column[row] for row in range(len(prompts)) for column in columns]
    return grid(cells, ["no LoRA", "A", "B", "A + B merged"], prompts)


def strengths(base: Base, values: Sequence[float] = (0, 0.5, 1, 1.5)) -> Image.Image:
    cells = [merged(base, [BOTH], a, b)[0] for b in values for a in values]
    return grid(cells, [f"A {value:.2f}" for value in values], [f"B {value:.2f}" for value in values])


def grid(cells: Sequence[Image.Image], columns: Sequence[str], rows: Sequence[str]) -> Image.Image:
    large = [cell.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB") for cell in cells]
    tensors = torch.stack([torch.from_numpy(np.asarray(cell, dtype=np.float32) / 255) for cell in large])
    drawn = labelled_grid(tensors, len(columns), columns, rows)[0]
    return Image.fromarray((drawn * 255).round().byte().numpy())


def main() -> None:
    base = load_base()
    strip(base).save(IMAGES / "merge.png", optimize=True)
    strengths(base).save(IMAGES / "merge_strengths.png", optimize=True)


if __name__ == "__main__":
    main()
