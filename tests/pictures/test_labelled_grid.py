"""Labelled grids: every cell is in its place, and no label is cut off."""

from __future__ import annotations

import pytest
import torch
from lora_pack.pictures.labelled_grid import FRAME_COLOUR, GREY, labelled_grid, layout_of
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


def test_cells_that_are_missing_are_grey_boxes():
    cells = [None, torch.full((64, 48, 3), 0.25), None, None]
    whole = labelled_grid(cells, 2)[0]
    assert whole.shape == (2 * 64 + 2, 2 * 48 + 2, 3)
    assert (whole[:64, :48] == GREY).all() and (whole[66:] != 0.25).all()
    assert (whole[:64, 50:] == 0.25).all()


@pytest.mark.parametrize("max_side", [1000, 60])
def test_cells_in_bytes_are_drawn_like_cells_from_0_to_1(max_side: int):
    cells = torch.arange(4 * 30 * 30 * 3).remainder(256).to(torch.uint8).reshape(4, 30, 30, 3)
    drawn = labelled_grid(list(cells), 2, max_side=max_side)
    assert torch.equal(drawn, labelled_grid(cells.float() / 255, 2, max_side=max_side))
    assert drawn.max() <= 1


def test_captions_stand_below_their_cells():
    cells = torch.zeros(4, 64, 64, 3)
    layout = layout_of(cells, 2, captions=["0.41", "", "0.5 +- 0.02", "a caption that is far too long for its cell"])
    whole = labelled_grid(
        cells, 2, captions=["0.41", "", "0.5 +- 0.02", "a caption that is far too long for its cell"]
    )[0]
    for place, written in {(0, 0): True, (1, 0): False, (0, 1): True, (1, 1): True}.items():
        x, y = layout.corner(place)
        assert (whole[y : y + 64, x : x + 64] == 0).all(), "a caption covers its cell"
        field = whole[y + 64 : y + 64 + layout.caption_height, x : x + 64]
        assert bool((field < 0.9).any()) == written
        assert not (field[:, 0] < 0.9).any() and not (field[:, -1] < 0.9).any(), "a caption reaches its neighbour"


def test_a_frame_is_around_its_cell_alone():
    cells = torch.zeros(6, 64, 64, 3)
    plain, framed = labelled_grid(cells, 3)[0], labelled_grid(cells, 3, frame=(1, 1))[0]
    changed = (plain != framed).any(-1).nonzero()
    assert changed.min(0).values.tolist() == [64, 64] and changed.max(0).values.tolist() == [129, 131]
    assert torch.equal(framed[67, 80], torch.tensor(FRAME_COLOUR)) and (framed[90:100, 90:100] == 0).all()


def test_large_grids_scale_down_and_keep_their_labels_apart():
    labels = [f"a_style_with_a_very_long_name_that_goes_on_v2-{n:06} -0.{n:02}" for n in range(20)]
    cells = torch.rand(400, 128, 128, 3)
    whole = labelled_grid(cells, 20, labels, labels, max_side=1600)[0]
    layout = layout_of(cells, 20, labels, labels, max_side=1600)
    assert whole.shape[:2] == (layout.height, layout.width) and max(whole.shape[:2]) <= 1600
    for column in range(20):
        x, _ = layout.corner((column, 0))
        field = whole[: layout.top, x : x + layout.cell_width] < 0.9
        assert field.any() and not field[:, 0].any() and not field[:, -1].any(), "labels of columns touch"
    for row in range(20):
        _, y = layout.corner((0, row))
        field = whole[y : y + layout.cell_height, : layout.left] < 0.9
        assert field.any() and not field[0].any() and not field[-1].any(), "labels of rows touch"


def test_the_layout_in_shares_finds_the_cells():
    layout = layout_of(torch.zeros(4, 64, 48, 3), 2, COLUMN_LABELS, ["", ""])
    shares = layout.shares()
    x, y = layout.corner((1, 1))
    assert round(layout.width * (shares["left"] + shares["cell_width"] + shares["gap_x"]), 6) == x
    assert round(layout.height * (shares["top"] + shares["cell_height"] + shares["gap_y"]), 6) == y
