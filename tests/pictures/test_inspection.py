"""The picture shows its data: colours of cells, hatching, marks; and no label is cut off or overlaps another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from lora_pack.pictures import theme
from lora_pack.pictures.cell_map import MARGIN, ROW_HEIGHT, ColourScale, column_bounds, draw_map, label_width
from lora_pack.pictures.energy_curves import draw_curves
from lora_pack.pictures.inspection import WIDTH, as_tensor, draw_inspection
from lora_pack.pictures.lettering import Lettering
from PIL import Image

NAN = math.nan
Columns = list[dict[str, Any]]


def columns(*groups: tuple[str, int], apart: tuple[str, ...] = ()) -> Columns:
    return [
        {"group": group, "number": number, "apart": group in apart}
        for group, count in groups
        for number in range(count)
    ]


SHAPES = {
    "SD 1.5": columns(("IN", 12), ("MID", 1), ("OUT", 12), ("TE1", 12), apart=("TE1",)),
    "SDXL": columns(("IN", 4), ("MID", 1), ("OUT", 6), ("TE1", 12), ("TE2", 32), apart=("TE1", "TE2")),
    "Flux": columns(("BASE", 1), ("DOUBLE", 19), ("SINGLE", 38)),
    "Qwen-Image": columns(("BLOCK", 60)),
    "one block": columns(("BLOCK", 1)),
}
ROWS = ["self q", "txt cross out", "ff in"]
SCALE = ColourScale(lambda value: theme.heat(value), [(0.0, "0"), (1.0, "100 %")], "share")


def pixel(image: Image.Image, x: int, y: int) -> theme.Colour:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found[:3]  # type: ignore[return-value]


def cells_of(shape: Columns) -> list[list[float | None]]:
    """Each cell another number; the second row has holes."""
    count = len(shape) * len(ROWS)
    return [
        [None if row == 1 and column % 3 == 0 else (row * len(shape) + column) / count for column in range(len(shape))]
        for row in range(len(ROWS))
    ]


def places(shape: Columns, image: Image.Image) -> list[list[tuple[int, int]]]:
    """The middle of each cell: rows are found from below, where the legend has a fixed height."""
    small = Lettering.of_size(20)
    bounds = column_bounds(shape, MARGIN + label_width(ROWS, small), image.width)  # type: ignore[arg-type]
    bottom = image.height - small.line_height - 8 - 2 * small.line_height
    top = bottom - len(ROWS) * ROW_HEIGHT
    return [[((left + right) // 2, top + ROW_HEIGHT * row + 10) for left, right in bounds] for row in range(len(ROWS))]


@pytest.mark.parametrize("name", SHAPES)
def test_every_cell_has_the_colour_of_its_number(name: str):
    shape = SHAPES[name]
    cells = cells_of(shape)
    image = draw_map("title", ROWS, shape, cells, SCALE, WIDTH)  # type: ignore[arg-type]
    for row, middles in zip(cells, places(shape, image), strict=True):
        for value, (x, y) in zip(row, middles, strict=True):
            assert pixel(image, x, y) == (theme.GROUND if value is None else theme.heat(value))


def test_unmeasured_cells_are_hatched():
    shape = SHAPES["one block"]
    image = draw_map("", ROWS, shape, [[NAN], [0.0], [None]], SCALE, WIDTH)  # type: ignore[arg-type]
    hatched, zero, absent = (middles[0] for middles in places(shape, image))
    area = np.asarray(image)[hatched[1] - 8 : hatched[1] + 8, hatched[0] - 15 : hatched[0] + 15]
    assert len(np.unique(area.reshape(-1, 3), axis=0)) > 1, "not measured looks like a number"
    assert pixel(image, *zero) == theme.heat(0) != theme.GROUND, "zero looks like a weight that isn't there"
    assert pixel(image, *absent) == theme.GROUND


@pytest.mark.parametrize("name", SHAPES)
def test_columns_fit_and_do_not_overlap(name: str):
    bounds = column_bounds(SHAPES[name], 150, WIDTH)  # type: ignore[arg-type]
    assert bounds[0][0] >= 150 and bounds[-1][1] <= WIDTH - MARGIN + 2
    assert all(right < left for (_, right), (left, _) in zip(bounds, bounds[1:], strict=False))
    assert min(right - left for left, right in bounds) >= 4, "too narrow to be seen on a node"


@pytest.mark.parametrize("name", SHAPES)
def test_labels_do_not_overlap(name: str, monkeypatch: pytest.MonkeyPatch):
    """Every text's box, as drawn on the whole map."""
    boxes: list[tuple[float, float, float, float]] = []
    from PIL import ImageDraw

    draw = ImageDraw.ImageDraw.text

    def text(self: Any, place: tuple[float, float], words: str, *rest: Any, **options: Any) -> None:
        if words:
            left, top, right, bottom = self.textbbox(place, words, font=options["font"])
            boxes.append((left, top, right, bottom))
        draw(self, place, words, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    image = draw_map("a title", ROWS, SHAPES[name], cells_of(SHAPES[name]), SCALE, WIDTH)  # type: ignore[arg-type]
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and top >= 0 and right <= image.width and bottom <= image.height
        for other in boxes[index + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (boxes[index], other)


def figure(**changes: Any) -> Any:
    shape = SHAPES["SD 1.5"]
    grid = {"rows": ROWS, "columns": shape, "cells": cells_of(shape)}
    found = {
        "sentence": "A and B are independent: sum them (concat or add_svd).",
        "loras": [{"label": label, "name": "name", "facts": [("norm", "1.7"), ("rank", "4")]} for label in "AB"],
        "maps": [{"label": label, **grid} for label in "AB"],
        "most": 1.0,
        "overlaps": [{"title": "A and B: cosine 0.00", "subtitle": "signs differ in 50 %", **grid}],
        "most_overlap": 1.0,
        "curves": [{"label": "A", "kept": [0.5, 0.9, 1.0], "marks": [(90, 2), (95, 3), (99, 3)]}],
        "left_out": "",
    }
    return found | changes


def test_the_page_is_as_wide_as_it_says_and_dark():
    image = draw_inspection(figure())
    assert image.width == WIDTH
    assert float(np.median(np.asarray(image).mean(axis=2))) < 80, "too bright for the dark theme"
    tensor = as_tensor(image)
    assert tensor.shape == (1, image.height, WIDTH, 3) and tensor.max() <= 1


def test_long_names_and_sentences_stay_on_the_page():
    name = "an_extremely_long_name_of_a_style_lora_" * 6
    loras = [{"label": "A", "name": name, "facts": [("norm", "1.7")]}]
    image = draw_inspection(figure(loras=loras, sentence=f"{name} is 78 times as strong as B: balance them. " * 3))
    pixels = np.asarray(image)
    assert (pixels[:, -8:] == theme.GROUND).all(), "something reaches the right edge"


def test_different_data_make_different_pictures_and_the_same_data_the_same():
    first, again = draw_inspection(figure()), draw_inspection(figure())
    assert first.tobytes() == again.tobytes()
    assert draw_inspection(figure(most=2.0)).tobytes() != first.tobytes()
    assert draw_inspection(figure(curves=[])).height < first.height


def test_marks_are_on_the_curve():
    kept = [0.5, 0.9, 0.96, 1.0]
    image = draw_curves("", [{"label": "A", "kept": kept, "marks": [(90, 2), (95, 3), (99, 4)]}], WIDTH)
    blue = (np.asarray(image) == theme.CURVES[0]).all(axis=2)
    plot = blue[:, 200:]
    xs = np.flatnonzero(plot.any(axis=0))
    assert len(xs) > 700, "the curve doesn't span the plot"
    heights = [int(np.flatnonzero(plot[: image.height - 60, x]).mean()) for x in (xs[0], xs[-20])]
    assert heights[1] < heights[0], "more rank keeps less"


@pytest.mark.parametrize("most", [1, 2, 40, 1000])
def test_curves_of_any_rank_are_drawn(most: int):
    kept = [(rank + 1) / most for rank in range(most)]
    marks = [(percent, max(1, math.ceil(percent / 100 * most))) for percent in (90, 95, 99)]
    image = draw_curves("", [{"label": "", "kept": kept, "marks": marks}], WIDTH)
    assert image.width == WIDTH


def test_colours_tell_numbers_apart():
    brightness = [sum(theme.heat(value / 20)) for value in range(21)]
    assert brightness == sorted(brightness) and len(set(brightness)) == 21
    red, white, blue = theme.diverging(-1), theme.diverging(0), theme.diverging(1)
    assert red[0] > red[2] and blue[2] > blue[0] and max(white) - min(white) < 5
    assert theme.diverging(5) == blue and theme.heat(-1) == theme.heat(0)
