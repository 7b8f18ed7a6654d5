"""A map of coloured cells: rows with names, columns in groups, a title and a colour scale with numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from PIL import Image, ImageDraw

from .lettering import Lettering
from .theme import GROUND, LINE, MUTED, TEXT, Colour

ROW_HEIGHT = 27
GAP = 6  # between groups of columns
WIDE_GAP = 18  # before the columns that stand apart
MARGIN = 20
MOST_CELL_WIDTH = 56
# The width of columns that stand apart, where there are more of them than of the others.
NARROW = 0.5


class Column(TypedDict):
    """``group`` is written above its columns, ``number`` below each; ``apart``: not part of the main model."""

    group: str
    number: int | None
    apart: bool


# None: there is no such cell. NaN: it has no number.
Cells = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class ColourScale:
    """``colour`` of a number; ``ticks``: the numbers and texts of the legend, from the left to the right end."""

    colour: Callable[[float], Colour]
    ticks: Sequence[tuple[float, str]]
    caption: str


def label_width(rows: Sequence[str], letters: Lettering) -> int:
    return max(map(letters.width, rows), default=0) + 12


def column_bounds(columns: Sequence[Column], left: int, width: int) -> list[tuple[int, int]]:
    """Where each column begins and ends, in pixels, from ``left`` on within ``width``.

    Columns that stand apart are narrower if there are more of them than of the others, which matter more.
    """
    gaps = [_gap(before, after) for before, after in zip(columns, columns[1:], strict=False)]
    apart = sum(column["apart"] for column in columns)
    narrow = NARROW if 0 < len(columns) - apart < apart else 1.0
    parts = [narrow if column["apart"] else 1.0 for column in columns]
    cell = min(MOST_CELL_WIDTH, (width - left - MARGIN - sum(gaps)) / (sum(parts) or 1))
    bounds, x = [], float(left)
    for gap, part in zip([*gaps, 0], parts, strict=True):
        bounds.append((round(x), max(round(x) + 2, round(x + cell * part) - 2)))
        x += cell * part + gap
    return bounds


def _gap(before: Column, after: Column) -> int:
    if before["group"] == after["group"]:
        return 0
    return WIDE_GAP if before["apart"] != after["apart"] else GAP


def draw_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[Column],
    cells: Cells,
    scale: ColourScale,
    width: int,
    subtitle: str = "",
    has_legend: bool = True,
) -> Image.Image:
    """The map in a picture of this width; its height follows from the number of rows."""
    letters, small = Lettering.of_size(24), Lettering.of_size(20)
    bounds = column_bounds(columns, MARGIN + label_width(rows, small), width)
    groups = _group_labels(columns, bounds, small, width)
    lines = 1 + max((line for *_, line in groups), default=0)
    head = letters.line_height + (small.line_height if subtitle else 0) + 4
    top = head + 2 + lines * small.line_height
    bottom = top + len(rows) * ROW_HEIGHT
    height = bottom + small.line_height + (8 + 2 * small.line_height if has_legend else 0)
    image = Image.new("RGB", (width, height), GROUND)
    canvas = ImageDraw.Draw(image)
    canvas.text((MARGIN, 0), letters.fitted(title, width - 2 * MARGIN), fill=TEXT, font=letters.font)
    canvas.text((MARGIN, letters.line_height), small.fitted(subtitle, width - 2 * MARGIN), fill=MUTED, font=small.font)
    for x, text, line in groups:
        y = head + (lines - 1 - line) * small.line_height
        canvas.text((x, y), text, fill=MUTED, font=small.font)
    for index, (row, values) in enumerate(zip(rows, cells, strict=True)):
        y = top + index * ROW_HEIGHT
        canvas.text((MARGIN, y + (ROW_HEIGHT - small.line_height) // 2), row, fill=TEXT, font=small.font)
        for (left, right), value in zip(bounds, values, strict=True):
            _draw_cell(image, (left, y, right, y + ROW_HEIGHT - 2), value, scale)
    _draw_numbers(canvas, columns, bounds, bottom + 1, small)
    if has_legend:
        _draw_scale(canvas, scale, bottom + small.line_height + 8, width, small)
    return image


def _draw_cell(image: Image.Image, box: tuple[int, int, int, int], value: float | None, scale: ColourScale) -> None:
    if value is None:
        return
    if math.isfinite(value):
        ImageDraw.Draw(image).rectangle(box, fill=scale.colour(value))
        return
    left, top, right, bottom = box
    hatched = Image.new("RGB", (right - left + 1, bottom - top + 1), GROUND)
    canvas = ImageDraw.Draw(hatched)
    for x in range(-hatched.height, hatched.width, 7):
        canvas.line((x, hatched.height, x + hatched.height, 0), fill=LINE, width=2)
    canvas.rectangle((0, 0, hatched.width - 1, hatched.height - 1), outline=LINE)
    image.paste(hatched, (left, top))


def _group_labels(
    columns: Sequence[Column], bounds: Sequence[tuple[int, int]], letters: Lettering, width: int
) -> list[tuple[int, str, int]]:
    """Where the names of groups go: x, text, and the line (0 is next to the cells) in which they don't overlap."""
    found: list[tuple[int, str, int]] = []
    ends: list[int] = []  # of the last label in each line
    for index, column in enumerate(columns):
        if index and columns[index - 1]["group"] == column["group"]:
            continue
        text = column["group"]
        last = next((i for i in range(index, len(columns)) if columns[i]["group"] != text), len(columns)) - 1
        middle = (bounds[index][0] + bounds[last][1]) // 2
        x = max(0, min(width - letters.width(text) - 2, middle - letters.width(text) // 2))
        line = next((i for i, end in enumerate(ends) if end + 8 < x), len(ends))
        ends[line : line + 1] = [x + letters.width(text)]
        found.append((x, text, line))
    return found


def _draw_numbers(
    canvas: ImageDraw.ImageDraw,
    columns: Sequence[Column],
    bounds: Sequence[tuple[int, int]],
    y: int,
    letters: Lettering,
) -> None:
    """The columns' numbers: all of them, or every fifth where they would touch."""
    numbered = [(n, span) for column, span in zip(columns, bounds, strict=True) if (n := column["number"]) is not None]
    wide = all(letters.width(str(number)) + 6 <= right - left for number, (left, right) in numbered)
    end = -1
    for number, (left, right) in numbered:
        x = (left + right - letters.width(str(number))) // 2
        if (wide or number % 5 == 0) and x > end + 4:
            canvas.text((x, y), str(number), fill=MUTED, font=letters.font)
            end = x + letters.width(str(number))


def _draw_scale(canvas: ImageDraw.ImageDraw, scale: ColourScale, y: int, width: int, letters: Lettering) -> None:
    """The legend: a caption, and a bar in all colours with numbers below it."""
    caption = letters.drawable(scale.caption)
    canvas.text((MARGIN, y), caption, fill=MUTED, font=letters.font)
    left = MARGIN + letters.width(caption) + 24
    right = min(width - 60, left + 330)
    if right - left < 60:
        return
    low, high = scale.ticks[0][0], scale.ticks[-1][0]
    for x in range(left, right + 1):
        value = low + (high - low) * (x - left) / (right - left)
        canvas.line((x, y + 3, x, y + letters.line_height - 4), fill=scale.colour(value))
    for value, text in scale.ticks:
        x = left + (right - left) * (value - low) / ((high - low) or 1)
        canvas.text(
            (int(x) - letters.width(text) // 2, y + letters.line_height - 2), text, fill=MUTED, font=letters.font
        )
