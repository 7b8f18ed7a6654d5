"""Arranges pictures on a sheet for the help panel, which is 272 pixels wide on screens of up to two dots a pixel."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from pictures.lettering import Lettering

WIDTH = 600
LETTERS = 22  # about 10 pixels in the panel
GAP = 6
LEFT = 112  # the largest width of the labels beside the rows
EDGE, FRAME = (214, 214, 220), (33, 140, 255)


def sheet(
    columns: Sequence[Sequence[Image.Image | None]],
    above: Sequence[str] = (),
    beside: Sequence[str] = (),
    *,
    below: Sequence[Sequence[str]] = (),
    frame: tuple[int, int] | None = None,
    width: int = WIDTH,
) -> Image.Image:
    """Square pictures, column by column, with labels above the columns and beside the rows. None: nothing there.

    ``below`` are captions of the pictures, column by column, from the bottom up: one a column for the last row only.
    ``frame`` is the column and row of a picture to frame.
    """
    letters = Lettering.of_size(LETTERS)
    rows = max(map(len, columns))
    left = max((letters.block_size(letters.wrap(label, LEFT))[0] for label in beside), default=0)
    side = (width - left - GAP * (len(columns) + 1)) // len(columns)
    top = _height(letters, above, side)
    captions = [[""] * (rows - len(column)) + list(column) for column in below]
    heights = [_height(letters, [column[row] for column in captions if column[row]], side) for row in range(rows)]
    tops = [top + GAP + row * (side + GAP) + sum(heights[:row]) for row in range(rows)]
    picture = Image.new("RGB", (width, tops[-1] + side + heights[-1] + GAP), "white")
    pen = ImageDraw.Draw(picture)

    def write(text: str, x: int, y: int, across: int, down: int) -> None:
        picture.paste(_image(letters.draw(letters.wrap(text, across), across, down)), (x, y))

    for column, cells in enumerate(columns):
        x = left + GAP + column * (side + GAP)
        if above:
            write(above[column], x, 0, side, top)
        for row, cell in enumerate(cells):
            if cell is None:
                continue
            box = (x, tops[row], x + side - 1, tops[row] + side - 1)
            picture.paste(cell.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), box[:2])
            framed = frame == (column, row)
            pen.rectangle(box, outline=FRAME if framed else EDGE, width=5 if framed else 1)
            if captions and captions[column][row]:
                write(captions[column][row], x, tops[row] + side, side, heights[row])
    for row, label in enumerate(beside):
        write(label, 0, tops[row], left, side)
    return picture


def _height(letters: Lettering, labels: Sequence[str], width: int) -> int:
    """Of the tallest label, wrapped."""
    return max((letters.block_size(letters.wrap(label, width))[1] for label in labels), default=0)


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().numpy())
