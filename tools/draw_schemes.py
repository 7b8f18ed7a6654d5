"""Draws the examples' thumbnails, which need a title and one idea rather than a small picture of a large graph.

    python -m tools.draw_schemes

They are drawings, not output of a model: LoRA A stands for a subject (a cat), LoRA B for a style (stripes). The squares
of the modes and the ranks are computed by the merge core from small matrices.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from merge.adapters.base import Lora, LoraModule  # noqa: E402
from merge.merging.merge_deltas import merge_deltas  # noqa: E402

EXAMPLES = ROOT / "example_workflows"

SIZE, SCALE = 240, 3  # drawn at three times the size, for smooth edges
PAPER, GREY, ORANGE, BLUE = (250, 248, 244), (188, 186, 182), (236, 138, 52), (46, 102, 196)


def cat(a: float, b: float) -> Image.Image:
    """A head whose ears and colour come with ``a`` (0 to 1), and whose stripes come with ``b``."""
    size = SIZE * SCALE
    picture = Image.new("RGB", (size, size), PAPER)
    draw = ImageDraw.Draw(picture)
    colour = blend(GREY, ORANGE, a)
    middle, radius = size * 0.54, size * 0.3

    def at(angle: float, distance: float) -> tuple[float, float]:
        return size / 2 + distance * math.sin(angle), middle - distance * math.cos(angle)

    for side in (-1, 1) if a else ():
        tip = at(side * 0.72, radius * (1.1 + 0.52 * a))
        draw.polygon([at(side * 0.32, radius * 0.97), tip, at(side * 1.18, radius * 0.97)], fill=colour)
    head = [size / 2 - radius, middle - radius, size / 2 + radius, middle + radius]
    draw.ellipse(head, fill=colour)
    if b:
        stripes = Image.new("RGB", (size, size), blend(PAPER, BLUE, b))
        mask = Image.new("L", (size, size))
        lines = ImageDraw.Draw(mask)
        for x in range(-size, 2 * size, size // 9):
            lines.line([(x, 0), (x + size, size)], fill=255, width=round(size * 0.03 * (0.4 + 0.6 * b)))
        picture.paste(stripes, mask=mask)
    for side in (-1, 1):
        x, y, eye = size / 2 + side * radius * 0.4, middle - radius * 0.15, radius * 0.11
        draw.ellipse([x - eye, y - eye * 1.5, x + eye, y + eye * 1.5], fill=(30, 30, 34))
    nose = radius * 0.1
    draw.polygon(
        [(size / 2 - nose, middle + nose), (size / 2 + nose, middle + nose), (size / 2, middle + 2.4 * nose)],
        fill=(30, 30, 34),
    )
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def blend(low: Sequence[int], high: Sequence[int], share: float) -> tuple[int, int, int]:
    r, g, b = (round(x + (y - x) * share) for x, y in zip(low, high, strict=True))
    return r, g, b


def merged_squares(mode: str, density: float) -> Tensor:
    noise = torch.Generator().manual_seed(4)
    loras = [one_module(name, torch.randn(7, 7, generator=noise)) for name in ("A", "B")]
    (module,) = merge_deltas(loras, f"{mode}_svd", density, 7, 7, 1).modules.values()
    return module.dense()


def truncated(rank: int) -> Image.Image:
    paper = 0.98
    matrix = tensor(cat(1, 0).convert("L").resize((48, 48)).convert("RGB"))[:, :, 0] - paper
    (module,) = merge_deltas([one_module("A", matrix)], "add_svd", 1.0, rank, rank).modules.values()
    shown = 255 * (module.dense() + paper).clamp(0, 1)
    return Image.fromarray(shown.byte().numpy()).resize((SIZE, SIZE)).convert("RGB")


def card(title: str) -> Image.Image:
    """The thumbnail of an example in the template browser, where a card is about 300 pixels wide: title and scheme."""
    picture = Image.new("RGB", (640, 360), (38, 38, 44))
    draw = ImageDraw.Draw(picture)
    name, _, pack = title.partition(" (")
    draw.text((30, 24), name, font=ImageFont.load_default(44), fill=(245, 245, 245))
    if pack:
        draw.text((30, 78), f"with {pack.rstrip(')')}", font=ImageFont.load_default(28), fill=(190, 190, 200))
    if "rank" in name or "resize" in name:
        cells = [truncated(rank) for rank in (1, 2, 8)]
    elif "modes" in name or "sweep" in name:
        cells = [squares(merged_squares(mode, 0.6)) for mode in ("add", "ties", "magnitude_prune")]
    elif "Look into" in name:
        a, b = (torch.randn(7, 7, generator=torch.Generator().manual_seed(seed)) for seed in (4, 5))
        cells = [squares(a), squares(b), squares(a * b)]
    elif "files" in name:
        cells = [cat(a, 0) for a in (0.3, 0.7, 1)]
    elif "strengths" in name or "cell" in name or "scores" in name:
        cells = [cat(1, b) for b in (0, 0.5, 1)]
    else:
        cells = [cat(1, 0), cat(0, 1), cat(1, 1)]
    for column, cell in enumerate(cells):
        picture.paste(cell.resize((180, 180), Image.Resampling.LANCZOS), (30 + 200 * column, 140))
    return picture


def one_module(name: str, matrix: Tensor) -> Lora:
    size = matrix.shape[0]
    module = LoraModule.of("weight", matrix, torch.eye(size), float(size))
    return Lora(name, {"weight": module})


def squares(matrix: Tensor) -> Image.Image:
    picture = Image.new("RGB", (SIZE, SIZE), PAPER)
    draw = ImageDraw.Draw(picture)
    edge = 14
    side = (SIZE - 2 * edge) / len(matrix)
    for row, values in enumerate(matrix.tolist()):
        for column, value in enumerate(values):
            colour = blend(PAPER, ORANGE if value > 0 else BLUE, min(1.0, abs(value) / 3))
            x, y = edge + column * side, edge + row * side
            draw.rectangle([x + 1, y + 1, x + side - 2, y + side - 2], fill=colour)
    return picture


def tensor(picture: Image.Image) -> Tensor:
    flat = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
    return flat.reshape(picture.height, picture.width, 3) / 255


def main() -> None:
    logging.disable(logging.WARNING)  # the small matrices belong to no model
    for example in EXAMPLES.glob("*.json"):
        card(example.stem).save(example.with_suffix(".jpg"), quality=88)


if __name__ == "__main__":
    main()
