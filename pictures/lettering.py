"""Text in pictures: a font in a suitable size, and measuring, wrapping and drawing with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MIN_FONT_SIZE = 11
# Where a line may wrap: before whitespace, and after a character that joins words in file names.
BREAKS = re.compile(r"(?<=[^\W_][_\-/,])|(?=\s)")
SPACES = re.compile(r"(?=\s)")


@dataclass(frozen=True)
class Lettering:
    """A font and its metrics in pixels."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    line_height: int
    padding: int

    @classmethod
    def for_cells(cls, width: int, height: int) -> Lettering:
        """A font in proportion to cells of this size, but never too small to read."""
        return cls.of_size(max(MIN_FONT_SIZE, round(min(width, height) / 18)))

    @classmethod
    def of_size(cls, size: int) -> Lettering:
        """The default font in this size, in pixels."""
        try:
            font = ImageFont.load_default(size)
        except TypeError:  # before Pillow 10.1 the default font has a single size
            font = ImageFont.load_default()
        _, top, _, bottom = font.getbbox("Ågjp|")
        return cls(font, round((bottom - min(top, 0)) * 1.15), max(2, size // 3))

    def drawable(self, text: str) -> str:
        """The text with a ? for each character that the font can't draw."""
        if isinstance(self.font, ImageFont.FreeTypeFont):
            return text
        return text.encode("latin-1", "replace").decode("latin-1")  # all that Pillow's bitmap font has

    def fitted(self, text: str, width: int) -> str:
        """The text, cut in the middle if it is wider than this."""
        text, kept = self.drawable(text), len(text)
        fitting = text
        while kept > 1 and self.width(fitting) > width:
            kept -= 1
            end = kept // 2
            fitting = f"{text[: kept - end]}...{text[len(text) - end :] if end else ''}"
        return fitting

    def width(self, text: str) -> int:
        return int(np.ceil(self.font.getlength(text))) if text else 0

    def wrap(self, text: str, width: int, breaks: re.Pattern[str] = BREAKS) -> list[str]:
        """The text in lines of at most this width. A word that is too long for a line is broken anywhere."""
        lines = [""]
        for piece in breaks.split(self.drawable(text).strip()):
            if self.width((lines[-1] + piece).strip()) <= width:
                lines[-1] += piece
                continue
            lines.append("")
            for letter in piece.strip():
                if lines[-1] and self.width(lines[-1] + letter) > width:
                    lines.append("")
                lines[-1] += letter
        return [line.strip() for line in lines if line.strip()]

    def block_size(self, lines: Sequence[str]) -> tuple[int, int]:
        """Width and height of a block of lines, including the padding around it."""
        widest = max(map(self.width, lines), default=0)
        return widest + 2 * self.padding, len(lines) * self.line_height + 2 * self.padding

    def draw(self, lines: Sequence[str], width: int, height: int) -> Tensor:
        """The lines, black and centred on a white field: (height, width, 3), values from 0 to 1."""
        image = Image.new("RGB", (width, height), "white")
        canvas = ImageDraw.Draw(image)
        y = (height - len(lines) * self.line_height) // 2
        for line in lines:
            canvas.text(((width - self.width(line)) // 2, y), line, fill="black", font=self.font)
            y += self.line_height
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
