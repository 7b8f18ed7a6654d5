"""Curves of the share of the energy that is kept over the rank, with marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from PIL import Image, ImageDraw

from .lettering import Lettering
from .theme import CURVES, GROUND, LINE, MUTED, TEXT

MARGIN = 20
PLOT_HEIGHT = 150
# From this rank on the axis is logarithmic.
LOG_FROM = 100


class Curve(TypedDict):
    """``kept``: the share at rank 1, 2, ...; ``marks``: percentages and the ranks that hold them."""

    label: str
    kept: Sequence[float]
    marks: Sequence[tuple[int, int]]


def draw_curves(title: str, curves: Sequence[Curve], width: int) -> Image.Image:
    letters, small = Lettering.of_size(24), Lettering.of_size(20)
    left = MARGIN + small.width("100 %") + 10
    right = width - MARGIN - 8
    top = letters.line_height + 10
    bottom = top + PLOT_HEIGHT
    height = bottom + 6 + small.line_height + len(curves) * small.line_height + 6
    image = Image.new("RGB", (width, height), GROUND)
    canvas = ImageDraw.Draw(image)
    canvas.text((MARGIN, 0), title, fill=TEXT, font=letters.font)
    most = max((len(curve["kept"]) for curve in curves), default=1)

    def x_of(rank: float) -> int:
        if most >= LOG_FROM:
            return round(left + (right - left) * math.log(max(1.0, rank)) / math.log(most))
        return round(left + (right - left) * (rank - 1) / max(1, most - 1))

    def y_of(share: float) -> int:
        return round(bottom - PLOT_HEIGHT * share)

    for percent in (0, 50, 100):
        y = y_of(percent / 100)
        canvas.line((left, y, right, y), fill=LINE)
        text = f"{percent} %"
        canvas.text((left - 10 - small.width(text), y - small.line_height // 2), text, fill=MUTED, font=small.font)
    _draw_axis(canvas, _ticks(most), x_of, bottom + 4, right, small)
    for number, curve in enumerate(curves):
        colour = CURVES[number % len(CURVES)]
        points = [(x_of(rank), y_of(share)) for rank, share in enumerate(curve["kept"], 1)]
        if len(points) > 1:
            canvas.line(points, fill=colour, width=3, joint="curve")
        for _, rank in curve["marks"]:
            x, y = x_of(rank), y_of(curve["kept"][rank - 1])
            canvas.ellipse((x - 6, y - 6, x + 6, y + 6), fill=GROUND, outline=colour, width=3)
        y = bottom + 8 + small.line_height * (number + 1)
        canvas.line((MARGIN, y + small.line_height // 2, MARGIN + 26, y + small.line_height // 2), fill=colour, width=4)
        marks = ", ".join(f"{rank} for {percent} %" for percent, rank in curve["marks"])
        label = f"{curve['label']}: " if curve["label"] else ""
        canvas.text((MARGIN + 36, y), f"{label}rank {marks}", fill=TEXT, font=small.font)
    return image


def _ticks(most: int) -> list[int]:
    if most >= LOG_FROM:
        powers = [4**power for power in range(int(math.log(most, 4)) + 1)]
        return [*powers, *([most] if most > 1.5 * powers[-1] else [])]
    step = next(step for step in (1, 2, 4, 8, 16, 32) if most / step <= 9)
    return [1, *(rank for rank in range(step, most + 1, step) if rank > 1)]


def _draw_axis(canvas: ImageDraw.ImageDraw, ticks: Sequence[int], x_of, y: int, right: int, letters: Lettering) -> None:
    end = -1
    for rank in ticks:
        text = str(rank)
        x = min(x_of(rank) - letters.width(text) // 2, right + 8 - letters.width(text))
        if x > end + 6:
            canvas.text((x, y), text, fill=MUTED, font=letters.font)
            end = x + letters.width(text)
