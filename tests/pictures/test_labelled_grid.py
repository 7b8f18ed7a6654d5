"""Labelled grids: every cell is in its place, and no label is cut off."""

from __future__ import annotations

import pytest
import torch
from lora_pack.pictures.labelled_grid import labelled_grid
from PIL import ImageFont

COLUMN_LABELS = ["style_lora 0.75", "a_style_with_a_ve…goes_on_v2-000012 -0.75"]
LONG = "a lighthouse, on a cliff, at dawn, masterpiece, Pneumonoultramicroscopicsilicovolcanoconiosis, " + "very " * 40
ROW_LABELS = [LONG, ""]


@pytest.mark.parametrize("width, height", [(64, 64), (1536, 1536), (512, 768), (1344, 128), (24, 16)])
def test_cells_are_in_place_and_labels_whole(width: int, height: int):
    cells = torch.rand(4, height, width, 3)
    whole = labelled_grid(cells, 2, COLUMN_LABELS, ROW_LABELS)[0]
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
    assert (whole[top + height + gap :, :left] == 1).all(), "the field of an empty label isn't white"
    assert (whole[:top, :left] == 1).all(), "the corner isn't white"


def test_a_grid_without_labels_is_only_the_cells():
    cells = torch.rand(1, 64, 64, 3)
    assert torch.equal(labelled_grid(cells, 1), cells)


def test_labels_are_drawn_with_the_bitmap_font_of_an_old_pillow(monkeypatch: pytest.MonkeyPatch):
    load_bitmap_font = getattr(ImageFont, "load_default_imagefont", None)
    if load_bitmap_font is None:
        pytest.skip("this Pillow has no bitmap font")
    bitmap = load_bitmap_font()

    def load_default() -> ImageFont.ImageFont:  # the old one takes no size
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    labels = [COLUMN_LABELS[1], LONG]
    whole = labelled_grid(torch.zeros(2, 64, 64, 3), 2, labels, ["风格 ½ — é"])[0]
    assert whole.shape[0] > 64 and whole.shape[1] > 130
