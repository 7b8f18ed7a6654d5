"""The picture of PM Inspect LoRA: names and numbers, one sentence, maps of the energy, of overlaps, and the spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .cell_map import Cells, ColourScale, Column, draw_map
from .energy_curves import Curve, draw_curves
from .lettering import SPACES, Lettering
from .theme import ACCENT, GROUND, MUTED, PANEL, TEXT, diverging, heat

# Shown on a node about half as wide.
WIDTH = 1000
MARGIN = 20
SPACE = 18


class NamedLora(TypedDict):
    label: str
    name: str
    facts: Sequence[tuple[str, str]]


class Grid(TypedDict):
    rows: Sequence[str]
    columns: Sequence[Column]
    cells: Cells


class EnergyMap(Grid):
    label: str


class Overlap(Grid):
    title: str
    subtitle: str


class Figure(TypedDict):
    """``most`` and ``most_overlap`` are the numbers with the full colours."""

    sentence: str
    loras: Sequence[NamedLora]
    maps: Sequence[EnergyMap]
    most: float
    overlaps: Sequence[Overlap]
    most_overlap: float
    curves: Sequence[Curve]
    left_out: str


def draw_inspection(figure: Figure) -> Image.Image:
    """An RGB picture, WIDTH pixels wide."""
    parts = [_header(figure)]
    for number, energy in enumerate(figure["maps"], 1):
        title = f"{energy['label']}: where its energy is" if energy["label"] else "Where its energy is"
        is_last = number == len(figure["maps"])
        parts.append(_map(energy, title, _energy_scale(figure["most"]), "", is_last))
    for number, overlap in enumerate(figure["overlaps"], 1):
        is_last = number == len(figure["overlaps"])
        scale = _overlap_scale(figure["most_overlap"])
        parts.append(_map(overlap, overlap["title"], scale, overlap["subtitle"], is_last))
    if figure["curves"]:
        parts.append(draw_curves("Share of the energy kept, by rank", figure["curves"], WIDTH))
    if figure["left_out"]:
        parts.append(_line(figure["left_out"]))
    return _stacked(parts)


def as_tensor(image: Image.Image) -> Tensor:
    """A picture as ComfyUI's IMAGE: (1, height, width, 3), values from 0 to 1."""
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)[None]


def _map(grid: Grid, title: str, scale: ColourScale, subtitle: str, has_legend: bool) -> Image.Image:
    return draw_map(title, grid["rows"], grid["columns"], grid["cells"], scale, WIDTH, subtitle, has_legend)


def _header(figure: Figure) -> Image.Image:
    """The LoRAs with four numbers each, and the sentence."""
    large, letters = Lettering.of_size(28), Lettering.of_size(22)
    lines = large.wrap(figure["sentence"], WIDTH - 2 * MARGIN - 24, SPACES)
    block = large.line_height + letters.line_height + 12
    height = 12 + len(figure["loras"]) * block + len(lines) * large.line_height + 28
    image = Image.new("RGB", (WIDTH, height), GROUND)
    canvas = ImageDraw.Draw(image)
    y = 12
    for lora in figure["loras"]:
        x = MARGIN
        if lora["label"]:
            canvas.text((x, y), lora["label"], fill=ACCENT, font=large.font)
            x += large.width(lora["label"]) + 16
        canvas.text((x, y), large.fitted(lora["name"], WIDTH - x - MARGIN), fill=TEXT, font=large.font)
        y += large.line_height
        for name, value in lora["facts"]:
            canvas.text((x, y), name, fill=MUTED, font=letters.font)
            x += letters.width(name) + 8
            canvas.text((x, y), value, fill=TEXT, font=letters.font)
            x += letters.width(value) + 28
        y += letters.line_height + 12
    box = (MARGIN, y, WIDTH - MARGIN, y + len(lines) * large.line_height + 16)
    canvas.rounded_rectangle(box, 10, fill=PANEL)
    for number, line in enumerate(lines):
        canvas.text((MARGIN + 12, y + 8 + number * large.line_height), line, fill=ACCENT, font=large.font)
    return image


def _line(text: str) -> Image.Image:
    letters = Lettering.of_size(20)
    image = Image.new("RGB", (WIDTH, letters.line_height), GROUND)
    ImageDraw.Draw(image).text((MARGIN, 0), text, fill=MUTED, font=letters.font)
    return image


def _energy_scale(most: float) -> ColourScale:
    most = most or 1.0
    ticks = [(part * most, _percent(part * most)) for part in (0, 0.25, 1)]
    return ColourScale(lambda value: heat(value / most), ticks, "share of the energy per weight")


def _overlap_scale(most: float) -> ColourScale:
    ticks = [(-most, f"-{most:.2f}"), (0.0, "0"), (most, f"{most:.2f}")]
    return ColourScale(lambda value: diverging(value / most), ticks, "cosine: red against, blue together")


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.2g} %"


def _stacked(parts: Sequence[Image.Image]) -> Image.Image:
    height = sum(part.height + SPACE for part in parts)
    whole = Image.new("RGB", (WIDTH, height), GROUND)
    y = 0
    for part in parts:
        whole.paste(part, (0, y))
        y += part.height + SPACE
    return whole
