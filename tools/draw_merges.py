"""Draws real merges for the README and help pages: pictures of the evidence benchmark's base with its shipped LoRAs.

    python -m tools.draw_merges

A is a concept (a question mark), B a style (the font Luckiest Guy). The base has seen neither, and no LoRA has seen the
one in the other: see benchmarks/evidence/base/README.md. ComfyUI draws the same pictures from the same seed.
"""

from __future__ import annotations

import sys
import tempfile
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
from benchmarks.evidence.merges import run as run_merge  # noqa: E402
from benchmarks.evidence.mmdit import MMDiT  # noqa: E402
from pictures.labelled_grid import labelled_grid  # noqa: E402

IMAGES = ROOT / "docs" / "images"
HELP = ROOT / "web" / "docs" / "pictures"
CONCEPT, STYLE = "question-mark", "luckiest-guy"
CONCEPT_ALONE, STYLE_ALONE, BOTH = "sign ? in lobster", "letter g in luckiest guy", "sign ? in luckiest guy"
SEED = 0
SIZE, SMALL = 192, 128  # pixels of a cell


def merged(base: Base, prompts: Sequence[str], concept: float, style: float) -> list[Image.Image]:
    """The prompts' pictures with the exact sum of both LoRAs at these strengths."""
    model = base.model
    for name, strength in ((CONCEPT, concept), (STYLE, style)):
        deltas = read_deltas(lora(name), base.model.state_dict())
        model = patched(model, {weight: strength * delta for weight, delta in deltas.items()})
    return pictures(base, prompts, model)


def merged_by(base: Base, *options: str) -> Image.Image:
    """The picture of both with what ``python -m merge merge`` makes of the two LoRAs with these options."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "merged.safetensors")
        run_merge(["merge", str(lora(CONCEPT)), str(lora(STYLE)), *options, "-o", str(file)])
        return pictures(base, [BOTH], patched(base.model, read_deltas(file, base.model.state_dict())))[0]


def lora(name: str) -> Path:
    return FOLDER / "loras" / f"{name}.safetensors"


def pictures(base: Base, prompts: Sequence[str], model: MMDiT) -> list[Image.Image]:
    sampled = sample(base, prompts, [SEED] * len(prompts), model=model)
    return [Image.fromarray((picture * 255).round().astype(np.uint8)) for picture in sampled]


def strip(base: Base) -> Image.Image:
    prompts = (CONCEPT_ALONE, STYLE_ALONE, BOTH)
    columns = [merged(base, prompts, a, b) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    cells = [column[row] for row in range(len(prompts)) for column in columns]
    return grid(cells, ["no LoRA", "A", "B", "A + B merged"], prompts)


def strengths(base: Base, values: Sequence[float] = (0, 0.5, 1, 1.5)) -> Image.Image:
    cells = [merged(base, [BOTH], a, b)[0] for b in values for a in values]
    return grid(cells, [f"A {value:.2f}" for value in values], [f"B {value:.2f}" for value in values])


def modes(base: Base) -> Image.Image:
    names, densities = ("add", "ties", "dare_linear", "magnitude_prune"), ("0.2", "0.6", "1.0")
    cells = [merged_by(base, "--mode", f"{name}_svd", "--density", density) for density in densities for name in names]
    return grid(cells, [f"{name}_svd" for name in names], [f"density {density}" for density in densities], SMALL)


def ranks(base: Base) -> Image.Image:
    chosen = ("1", "2", "4", "16")
    cells = [merged_by(base, "--mode", "add_svd", "--rank", rank) for rank in chosen]
    return grid(cells, [f"rank {rank}" for rank in chosen], [], SMALL)


def grid(cells: Sequence[Image.Image], columns: Sequence[str], rows: Sequence[str], size: int = SIZE) -> Image.Image:
    large = [cell.resize((size, size), Image.Resampling.BICUBIC).convert("RGB") for cell in cells]
    tensors = torch.stack([torch.from_numpy(np.asarray(cell, dtype=np.float32) / 255) for cell in large])
    drawn = labelled_grid(tensors, len(columns), columns, rows)[0]
    return Image.fromarray((drawn * 255).round().byte().numpy())


def main() -> None:
    base = load_base()
    strip(base).save(IMAGES / "merge.png", optimize=True)
    strengths(base).save(IMAGES / "merge_strengths.png", optimize=True)
    for name, picture in (
        ("XY_PM_LoRA_Strengths", strengths(base, (0, 0.5, 1))),
        ("XY_PM_LoRA_Modes", modes(base)),
        ("XY_PM_LoRA_SVD_Rank", ranks(base)),
        ("PM_XY_Grid", strengths(base, (0, 1))),
    ):
        picture.thumbnail((600, 600))  # the help panel is 272 pixels wide, on screens of up to two dots a pixel
        picture.save(HELP / f"{name}.webp", quality=85)


if __name__ == "__main__":
    main()
