"""Text in pictures: wrapping keeps every character, and the font is in proportion to the cells."""

from __future__ import annotations

import pytest
from lora_pack.pictures.lettering import Lettering

TEXTS = [
    "ties",
    "style_lora 0.75",
    "a_style_with_a_ve…goes_on_v2-000012 -0.75",
    "a lighthouse, on a cliff, at dawn, masterpiece, Pneumonoultramicroscopicsilicovolcanoconiosis, " + "very " * 40,
    "",
    "风格 ½ — é",
]


@pytest.fixture
def letters() -> Lettering:
    return Lettering.for_cells(64, 64)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [20, 64, 400])
def test_wrapping_keeps_every_character_and_the_width(letters: Lettering, text: str, width: int):
    lines = letters.wrap(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(letters.width(line) <= width for line in lines)


@pytest.mark.parametrize("text", [text for text in TEXTS if text and len(text) < 60])
def test_a_text_that_fits_stays_on_one_line(letters: Lettering, text: str):
    assert letters.wrap(text, 400) == [text]


def test_an_empty_text_has_no_lines(letters: Lettering):
    assert letters.wrap(" ", 400) == []


def test_lines_break_between_words_and_after_joining_characters(letters: Lettering):
    assert letters.wrap("style_lora -0.75", letters.width("style_lora")) == ["style_lora", "-0.75"]
    assert letters.wrap("style_lora -0.75", letters.width("style_lor")) == ["style_", "lora", "-0.75"]


def test_the_font_grows_with_the_cells_from_a_readable_minimum():
    heights = [Lettering.for_cells(size, size).line_height for size in (64, 512, 1536)]
    assert 10 < heights[0] < heights[1] < heights[2] < 150


def test_drawn_text_is_black_on_white_and_centred(letters: Lettering):
    field = letters.draw(["ties"], 100, 40)
    assert field.shape == (40, 100, 3)
    assert field.min() < 0.2 and field.max() == 1
    ink = (field < 0.5).any(dim=2).any(dim=0).nonzero().flatten()
    assert abs(float(ink.float().mean()) - 50) < 5
