"""The labelled picture of a grid: where cells and labels go, and the drawing of the labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SMALLEST_FONT = 11
# Places where a label may go on in the next line: before a space, and after what joins the words of a file name.
BREAKS = re.compile(r"(?<=[^\W_][_\-/,])|(?=\s)")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont | ImageFont.TransposedFont


@dataclass(frozen=True)
class Lettering:
    """A font with what it measures."""

    font: Font
    line_height: int
    padding: int

    def width(self, text: str) -> int:
        return int(np.ceil(self.font.getlength(text))) if text else 0  # type: ignore[union-attr]

    def wrap(self, text: str, width: int) -> list[str]:
        """The text in lines of at most this width; a word that is too long alone goes on in the next line."""
        if not isinstance(self.font, ImageFont.FreeTypeFont):  # Pillow's bitmap font has no other letters
            text = text.encode("latin-1", "replace").decode("latin-1")
        lines = [""]
        for piece in BREAKS.split(text.strip()):
            if self.width((lines[-1] + piece).strip()) <= width:
                lines[-1] += piece
                continue
            lines.append("")
            for letter in piece.strip():
                if lines[-1] and self.width(lines[-1] + letter) > width:
                    lines.append("")
                lines[-1] += letter
        return [line.strip() for line in lines if line.strip()]

    def block(self, lines: Sequence[str]) -> tuple[int, int]:
        """Width and height of lines below each other, with space around them."""
        widest = max(map(self.width, lines), default=0)
        return widest + 2 * self.padding, len(lines) * self.line_height + 2 * self.padding


def lettering(width: int, height: int) -> Lettering:
    """Letters in proportion to a cell, but never too small to read."""
    size = max(SMALLEST_FONT, round(min(width, height) / 18))
    try:
        font: Font = ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size only
        font = ImageFont.load_default()
    left, top, right, bottom = font.getbbox("Ågjp|")
    return Lettering(font, round((bottom - min(top, 0)) * 1.15), max(2, size // 3))


def labelled_grid(
    cells: Tensor, columns: int, column_labels: Sequence[str] = (), row_labels: Sequence[str] = ()
) -> Tensor:
    """Cells (n, height, width, 3), row by row, as one picture (1, height, width, 3): labels above and to the left.

    Labels are wrapped, and the space for them grows with them: nothing is cut off, however small the cells are.
    """
    count, height, width, _ = cells.shape
    rows = count // columns
    letters = lettering(width, height)
    above = [letters.wrap(label, width - 2 * letters.padding) for label in column_labels]
    left_of = _wrap_to_height(row_labels, height, width, letters)
    top = max((letters.block(lines)[1] for lines in above), default=0)
    left = max((letters.block(lines)[0] for lines in left_of), default=0)
    gap = max(2, min(width, height) // 128)

    picture = torch.ones(top + rows * (height + gap) - gap, left + columns * (width + gap) - gap, 3)
    for column, lines in enumerate(above):
        x = left + column * (width + gap)
        picture[:top, x : x + width] = _drawn(lines, width, top, letters)
    for row, lines in enumerate(left_of):
        y = top + row * (height + gap)
        picture[y : y + height, :left] = _drawn(lines, left, height, letters)
    for number, cell in enumerate(cells):
        y, x = top + number // columns * (height + gap), left + number % columns * (width + gap)
        picture[y : y + height, x : x + width] = cell
    return picture[None]


def _wrap_to_height(labels: Sequence[str], height: int, width: int, letters: Lettering) -> list[list[str]]:
    """The labels in a column that is as narrow as the height of the cells allows."""
    room = max(width // 2, letters.line_height)
    while True:
        wrapped = [letters.wrap(label, room) for label in labels]
        if all(len(lines) <= 1 or letters.block(lines)[1] <= height for lines in wrapped):
            return wrapped
        room = room * 5 // 4


def _drawn(lines: Sequence[str], width: int, height: int, letters: Lettering) -> Tensor:
    """Lines in the middle of a white field, as a tensor (height, width, 3)."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    y = (height - len(lines) * letters.line_height) // 2
    for line in lines:
        draw.text(((width - letters.width(line)) // 2, y), line, fill="black", font=letters.font)
        y += letters.line_height
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
