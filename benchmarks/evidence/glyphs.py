"""The benchmark's pictures and prompts: one character in one font.

The base learns 26 letters in 18 fonts, without the pairs in HELD_OUT. A concept is a character and a style a font that
it has never seen: LoRAs teach them, and for every combination the true picture can be drawn.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import background
from .fonts import FOLDER, FONT_FILES, font_file

SIZE = 64  # pixels
CAP_HEIGHT = 38  # pixels, of the letter H
LARGEST = 54  # pixels: wide or tall characters shrink to this
SHIFT = 2.0  # pixels: the largest shift of a variant, to each side
OVERSAMPLING = 4
VARIANTS = 12

CHARACTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
CONCEPTS = ("&", "?", "@", "$", "4", "7")
STYLES = ("gravitas", "great vibes", "luckiest guy", "pacific", "shadows into light", "unbounded")
FONTS = tuple(name for name in FONT_FILES if name not in STYLES)

# One letter in nine of each font; every letter keeps most of its fonts.
HELD_OUT = frozenset(
    (character, font)
    for row, character in enumerate(CHARACTERS)
    for column, font in enumerate(FONTS)
    if (row * 5 + column * 7) % 9 == 0
)
PAIRS = tuple((character, font) for character in CHARACTERS for font in FONTS if (character, font) not in HELD_OUT)

NAMES = {letter: f"letter {letter.lower()}" for letter in CHARACTERS}
for _other in (*CONCEPTS, *background.CHARACTERS):
    NAMES[_other] = f"digit {_other}" if _other.isdecimal() else f"sign {_other}"


def prompt(character: str | None, font: str | None) -> str:
    """What a user types, such as "letter a in bungee". None leaves out the character or the font."""
    parts = [NAMES[character] if character is not None else None, font]
    return " in ".join(part for part in parts if part)


def render(character: str, font: str, variant: int = 0) -> np.ndarray:
    """The picture, (SIZE, SIZE) float32: 0 is ink, 1 is paper.

    Variant 0 is centred. The others, up to VARIANTS, are shifted by at most SHIFT pixels and up to 5 % smaller or
    larger: with them a prompt has several right pictures, and the noise decides which one is drawn.
    """
    scale, right, down = _placement(variant)
    size = SIZE * OVERSAMPLING
    face = _face(font, round(_font_size(character, font) * scale))
    left, top, end, bottom = face.getbbox(character)
    x = (size - (end - left)) / 2 - left + right * OVERSAMPLING
    y = (size - (bottom - top)) / 2 - top + down * OVERSAMPLING
    canvas = Image.new("L", (size, size), 255)
    ImageDraw.Draw(canvas).text((round(x), round(y)), character, fill=0, font=face)
    small = canvas.resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def _mask(face: ImageFont.FreeTypeFont, text: str) -> Any:
    return face.getmask(text)  # Pillow doesn't declare that it is a sequence


def is_drawn(character: str, font: str) -> bool:
    """Whether the font has the character: what it draws is neither blank nor the box for those it lacks."""
    face = _face(font, SIZE)
    drawn, lacking = (list(_mask(face, text)) for text in (character, "\uffff"))
    return any(drawn) and drawn != lacking


def _placement(variant: int) -> tuple[float, float, float]:
    if variant == 0:
        return 1.0, 0.0, 0.0
    scale, right, down = np.random.default_rng(variant).uniform(-1, 1, 3)
    return 1 + 0.05 * float(scale), SHIFT * float(right), SHIFT * float(down)


@lru_cache(maxsize=4096)
def _font_size(character: str, font: str) -> int:
    """In oversampled pixels: capitals have one height in all fonts, unless a character would become too large."""
    trial = 400
    face = _face(font, trial)
    _, top, _, bottom = face.getbbox("H")
    by_height = CAP_HEIGHT / (bottom - top)
    left, top, right, bottom = face.getbbox(character)
    return round(trial * OVERSAMPLING * min(by_height, LARGEST / max(right - left, bottom - top)))


@lru_cache(maxsize=512)
def _face(font: str, size: int) -> ImageFont.FreeTypeFont:
    file = FOLDER / background.FONTS[font].file if font in background.FONTS else font_file(font)
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
