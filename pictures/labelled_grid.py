"""A grid of equally large pictures with labels above the columns and to the left of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .lettering import Lettering


def labelled_grid(
    cells: Tensor, columns: int, column_labels: Sequence[str] = (), row_labels: Sequence[str] = ()
) -> Tensor:
    """Arranges cells (n, height, width, 3), given row by row, in one picture (1, height, width, 3).

    Values are from 0 to 1, as in ComfyUI's IMAGE. Labels wrap and the margins grow to hold them: none is cut off,
    however small the cells are.
    """
    count, height, width, _ = cells.shape
    rows = count // columns
    letters = Lettering.for_cells(width, height)
    above = [letters.wrap(label, width - 2 * letters.padding) for label in column_labels]
    beside = _wrap_row_labels(row_labels, height, width, letters)
    top = max((letters.block_size(lines)[1] for lines in above), default=0)
    left = max((letters.block_size(lines)[0] for lines in beside), default=0)
    gap = max(2, min(width, height) // 128)

    picture = torch.ones(top + rows * (height + gap) - gap, left + columns * (width + gap) - gap, 3)
    for column, lines in enumerate(above):
        x = left + column * (width + gap)
        picture[:top, x : x + width] = letters.draw(lines, width, top)
    for row, lines in enumerate(beside):
        y = top + row * (height + gap)
        picture[y : y + height, :left] = letters.draw(lines, left, height)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        y, x = top + row * (height + gap), left + column * (width + gap)
        picture[y : y + height, x : x + width] = cell
    return picture[None]


def _wrap_row_labels(labels: Sequence[str], height: int, width: int, letters: Lettering) -> list[list[str]]:
    """Wraps the labels into the narrowest column in which each still fits the height of a cell."""
    column_width = max(width // 2, letters.line_height)
    while True:
        wrapped = [letters.wrap(label, column_width) for label in labels]
        if all(len(lines) <= 1 or letters.block_size(lines)[1] <= height for lines in wrapped):
            return wrapped
        column_width = column_width * 5 // 4
