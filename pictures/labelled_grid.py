"""A grid of equally large pictures with labels above the columns and to the left of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .grid_layout import GridLayout, Place, grid_layout

GREY = 0.5  # of a cell that is missing
FRAME_COLOUR = (0.13, 0.55, 1.0)
# Larger grids are scaled down: they would take gigabytes, and programs refuse to show or save them.
MAX_SIDE = 16_000
MAX_PIXELS = 100_000_000
# Cells aren't scaled down below this side: long labels around smaller ones would take most of the picture.
MIN_CELL = 40


def labelled_grid(
    cells: Tensor | Sequence[Tensor | None],
    columns: int,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    *,
    captions: Sequence[str] = (),
    frame: Place | None = None,
    max_side: int = MAX_SIDE,
) -> Tensor:
    """Arranges cells (height, width, 3), given row by row, in one picture (1, height, width, 3).

    Values are from 0 to 1, as in ComfyUI's IMAGE; cells may also be in bytes. None is a cell that is missing: a grey
    box. ``captions`` stand below the cells, row by row; ``frame`` is the column and row of a cell to frame. Labels wrap
    and the margins grow to hold them, so that none is cut off or overlaps another. A grid that would be larger than
    ``max_side``, or than MAX_PIXELS in all, has smaller cells.
    """
    layout = layout_of(cells, columns, column_labels, row_labels, captions=captions, max_side=max_side)
    letters, width, height = layout.letters, layout.cell_width, layout.cell_height
    picture = torch.ones(layout.height, layout.width, 3)
    for column, lines in enumerate(layout.above):
        x, _ = layout.corner((column, 0))
        picture[: layout.top, x : x + width] = letters.draw(lines, width, layout.top)
    for row, lines in enumerate(layout.beside):
        _, y = layout.corner((0, row))
        picture[y : y + height, : layout.left] = letters.draw(lines, layout.left, height)
    for number, cell in enumerate(cells):
        x, y = layout.corner((number % columns, number // columns))
        picture[y : y + height, x : x + width] = GREY if cell is None else scaled(cell, width, height)
        if captions:
            caption = letters.fitted(captions[number], width - 2 * letters.padding)
            below = y + height
            picture[below : below + layout.caption_height, x : x + width] = letters.draw(
                [caption], width, layout.caption_height
            )
    if frame is not None:
        _draw_frame(picture, layout, frame)
    return picture[None]


def layout_of(
    cells: Tensor | Sequence[Tensor | None],
    columns: int,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    *,
    captions: Sequence[str] = (),
    max_side: int = MAX_SIDE,
) -> GridLayout:
    """The layout of labelled_grid() with these arguments."""
    rows = len(cells) // columns
    height, width = size_of(cells)

    def fitting(share: float) -> GridLayout:
        size = max(1, round(width * share)), max(1, round(height * share))
        return grid_layout(columns, rows, size, column_labels, row_labels, bool(captions))

    share, layout = 1.0, fitting(1.0)
    least = min(1.0, MIN_CELL / min(width, height))
    # letters have a smallest size, so that the margins don't shrink with the cells: approach the limit in steps
    for _ in range(8):
        sides = max(layout.width, layout.height) / max_side
        excess = max(sides, (layout.width * layout.height / MAX_PIXELS) ** 0.5)
        if excess <= 1 or share == least:
            break
        share = max(least, share / (excess * 1.002))
        layout = fitting(share)
    return layout


def size_of(cells: Iterable[Tensor | None]) -> tuple[int, int]:
    """Height and width of the first cell that isn't missing. Raises ValueError if all are."""
    for cell in cells:
        if cell is not None:
            return cell.shape[0], cell.shape[1]
    raise ValueError("A grid needs at least one cell.")


def scaled(cell: Tensor, width: int, height: int) -> Tensor:
    """A cell (height, width, 3) in another size, with values from 0 to 1."""
    if cell.dtype == torch.uint8:
        cell = cell.float() / 255
    if cell.shape[:2] == (height, width):
        return cell
    channels_first = cell.float().movedim(-1, 0)[None]
    smaller = interpolate(channels_first, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return smaller[0].movedim(0, -1).clamp(0, 1)


def _draw_frame(picture: Tensor, layout: GridLayout, place: Place) -> None:
    """A frame around a cell, in the gap and over its edge."""
    x, y = layout.corner(place)
    thick = max(2, min(layout.cell_width, layout.cell_height) // 40)
    outside = layout.gap
    bottom, right = y + layout.cell_height + layout.caption_height, x + layout.cell_width
    top_edge, left_edge = max(0, y - outside), max(0, x - outside)
    colour = torch.tensor(FRAME_COLOUR)
    picture[top_edge : y + thick, left_edge : right + outside] = colour
    picture[bottom - thick : bottom + outside, left_edge : right + outside] = colour
    picture[top_edge : bottom + outside, left_edge : x + thick] = colour
    picture[top_edge : bottom + outside, right - thick : right + outside] = colour
