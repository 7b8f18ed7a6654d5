"""Where the cells of a labelled grid are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .lettering import Lettering

Place = tuple[int, int]  # column, row


@dataclass(frozen=True)
class GridLayout:
    """A grid of cells of one size, with labels above and beside them and a caption below each; in pixels."""

    columns: int
    rows: int
    cell_width: int
    cell_height: int
    above: list[list[str]]  # the lines of each column's label
    beside: list[list[str]]  # the lines of each row's label
    caption_height: int
    letters: Lettering

    @cached_property
    def top(self) -> int:
        return max((self.letters.block_size(lines)[1] for lines in self.above), default=0)

    @cached_property
    def left(self) -> int:
        return max((self.letters.block_size(lines)[0] for lines in self.beside), default=0)

    @property
    def gap(self) -> int:
        return max(2, min(self.cell_width, self.cell_height) // 128)

    @property
    def width(self) -> int:
        return self.left + self.columns * (self.cell_width + self.gap) - self.gap

    @property
    def height(self) -> int:
        return self.top + self.rows * (self.cell_height + self.caption_height + self.gap) - self.gap

    def corner(self, place: Place) -> tuple[int, int]:
        """x and y of a cell's upper left corner."""
        column, row = place
        x = self.left + column * (self.cell_width + self.gap)
        return x, self.top + row * (self.cell_height + self.caption_height + self.gap)

    def shares(self) -> dict[str, float]:
        """The layout in shares of the picture's width and height, for whoever looks for a cell in it at any size."""
        return {
            "left": self.left / self.width,
            "top": self.top / self.height,
            "cell_width": self.cell_width / self.width,
            "cell_height": (self.cell_height + self.caption_height) / self.height,
            "gap_x": self.gap / self.width,
            "gap_y": self.gap / self.height,
            "aspect": self.width / self.height,
        }


def grid_layout(
    columns: int,
    rows: int,
    cell_size: tuple[int, int],
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    captions: bool = False,
) -> GridLayout:
    """The layout of cells of this width and height. Labels wrap and the margins grow to hold them, so none is cut."""
    width, height = cell_size
    letters = Lettering.for_cells(width, height)
    above = [letters.wrap(label, width - 2 * letters.padding) for label in column_labels]
    beside = _wrap_row_labels(row_labels, height, width, letters)
    caption_height = letters.block_size([""])[1] if captions else 0
    return GridLayout(columns, rows, width, height, above, beside, caption_height, letters)


def _wrap_row_labels(labels: Sequence[str], height: int, width: int, letters: Lettering) -> list[list[str]]:
    """Wraps the labels into the narrowest column in which each still fits the height of a cell."""
    column_width = max(width // 2, letters.line_height)
    while True:
        wrapped = [letters.wrap(label, column_width) for label in labels]
        if all(len(lines) <= 1 or letters.block_size(lines)[1] <= height for lines in wrapped):
            return wrapped
        column_width = column_width * 5 // 4
