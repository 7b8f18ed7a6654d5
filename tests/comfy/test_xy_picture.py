"""The labelled picture of a grid: the cells are where they belong, and no label is cut off."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from PIL import ImageFont

LABELS = [
    "ties",
    "style_lora 0.75",
    "a_style_with_a_ve…goes_on_v2-000012 -0.75",
    "a lighthouse, on a cliff, at dawn, masterpiece, Pneumonoultramicroscopicsilicovolcanoconiosis, " + "very " * 40,
    "",
    "风格 ½ — é",
]


@pytest.fixture(scope="module")
def xy_picture(comfy: ModuleType) -> ModuleType:
    from lora_pack.xy import picture

    return picture


@pytest.mark.parametrize("width, height", [(64, 64), (1536, 1536), (512, 768), (1344, 128), (24, 16)])
def test_labels_are_whole_and_have_room(xy_picture: ModuleType, width: int, height: int):
    cells = torch.rand(4, height, width, 3)
    whole = xy_picture.labelled_grid(cells, 2, LABELS[1:3], LABELS[3:5])[0]
    gap = max(2, min(width, height) // 128)
    top, left = whole.shape[0] - 2 * height - gap, whole.shape[1] - 2 * width - gap
    for number, cell in enumerate(cells):
        y, x = top + number // 2 * (height + gap), left + number % 2 * (width + gap)
        assert torch.equal(whole[y : y + height, x : x + width], cell)
    fields = [whole[:top, left + i * (width + gap) :][:, :width] for i in (0, 1)] + [whole[top : top + height, :left]]
    for field in fields:
        ink = field < 0.9
        assert ink.any()
        edges = (ink[0], ink[-1], ink[:, 0], ink[:, -1])
        assert not any(edge.any() for edge in edges), "letters reach the edge of their field"
    assert (whole[top + height + gap :, :left] == 1).all()  # the empty label's
    assert (whole[:top, :left] == 1).all()


@pytest.mark.parametrize("text", LABELS)
@pytest.mark.parametrize("width", [20, 64, 400])
def test_wrapping_loses_nothing(xy_picture: ModuleType, text: str, width: int):
    letters = xy_picture.lettering(64, 64)
    lines = letters.wrap(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(letters.width(line) <= width for line in lines)
    if width == 400 and len(text) < 60:
        assert lines == [text][: len(text)]


def test_lines_break_where_words_end(xy_picture: ModuleType):
    letters = xy_picture.lettering(64, 64)
    assert letters.wrap("style_lora -0.75", letters.width("style_lora")) == ["style_lora", "-0.75"]
    assert letters.wrap("style_lora -0.75", letters.width("style_lor")) == ["style_", "lora", "-0.75"]


def test_letters_grow_with_the_cells(xy_picture: ModuleType):
    heights = [xy_picture.lettering(size, size).line_height for size in (64, 512, 1536)]
    assert 10 < heights[0] < heights[1] < heights[2] < 150


def test_without_axes_it_is_the_picture_alone(xy_picture: ModuleType):
    cells = torch.rand(1, 64, 64, 3)
    assert torch.equal(xy_picture.labelled_grid(cells, 1), cells)


def test_with_the_font_of_an_old_pillow(xy_picture: ModuleType, monkeypatch: pytest.MonkeyPatch):
    old = getattr(ImageFont, "load_default_imagefont", None)
    if old is None:
        pytest.skip("This Pillow has no bitmap font to try.")
    bitmap = old()

    def load_default() -> ImageFont.ImageFont:  # it takes no size
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    whole = xy_picture.labelled_grid(torch.zeros(2, 64, 64, 3), 2, LABELS[2:4], LABELS[5:])[0]
    assert whole.shape[0] > 64 and whole.shape[1] > 130
