"""The README's pictures."""

from __future__ import annotations

from PIL import Image

from .drawing import CONCEPT, PROMPTS, STYLE, drawn, merged
from .sheet import sheet
from .strengths import xy_strengths

WIDE = 860


def strip() -> Image.Image:
    loras = {"no LoRA": [], "A": [CONCEPT], "B": [STYLE], "A + B merged": [merged(CONCEPT, STYLE)]}
    return sheet([drawn(files, PROMPTS) for files in loras.values()], list(loras), PROMPTS, width=WIDE)


def strengths() -> Image.Image:
    return xy_strengths((0, 0.5, 1, 1.5), ("A", "B"), WIDE)


PICTURES = {"merge": strip, "merge_strengths": strengths}
