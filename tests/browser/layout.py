"""Arranges the nodes of a generated example so that they overlap on no canvas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_pack.tests.browser.canvas import Canvas

# More than one canvas needs: other front ends draw nodes a little larger than those that are measured here.
GAP_X, GAP_Y = 120, 100
NOTE_WIDTH, NOTE_CHARACTERS = 300, 42

Place = tuple[float, float]


def arrange(pages: Sequence[Canvas], ids: Sequence[Mapping[str, int]], wanted: Mapping[str, Place]) -> None:
    """Stack the nodes in columns, each as high as the canvas that draws it largest.

    The pages show the same nodes on the classic canvas and in Nodes 2.0; ``ids`` are those of each page, by name.
    ``wanted`` gives the order: nodes with the same x form a column, from the smallest y down.
    """
    sizes: dict[str, tuple[float, float]] = {}
    for page, named in zip(pages, ids, strict=True):
        show_all(page)
        boxes = {box[0]: box[2:] for box in page.call("boxes")}
        for name, id in named.items():
            _, _, width, height = boxes[id]
            widest, highest = sizes.get(name, (0.0, 0.0))
            sizes[name] = max(widest, width), max(highest, height)
    left = min(x for x, _ in wanted.values())
    top = min(y for _, y in wanted.values())
    for x in sorted({x for x, _ in wanted.values()}):
        column = sorted((name for name in wanted if wanted[name][0] == x), key=lambda name: wanted[name][1])
        below = top
        for name in column:
            for page, named in zip(pages, ids, strict=True):
                page.page.evaluate("([id, place]) => (pm.node(id).pos = place)", [named[name], [left, below]])
            below += sizes[name][1] + GAP_Y
        left += max(sizes[name][0] for name in column) + GAP_X


def show_all(page: Canvas) -> None:
    """Zoom out until every node is in view: Nodes 2.0 may not draw those outside."""
    page.page.evaluate(
        "Object.assign(app.canvas.ds, { scale: 0.5, offset: [150, 150] }); app.canvas.setDirty(true, true)"
    )
    for _ in range(3):
        page.call("frame")


def note_height(text: str) -> int:
    """The height of a Markdown note, in pixels, that shows this text whole on both canvases."""
    height = 50
    for paragraph in text.split("\n\n"):
        lines = -(-len(paragraph) // NOTE_CHARACTERS)
        height += 38 if paragraph.startswith("#") else 11 + 16 * lines
    return height


def keep_seed(node: Any) -> dict[str, str]:
    """The widget that would change a node's seed after each run, set to keep it; nothing if the node has none."""
    return {"control_after_generate": "fixed"} if "control_after_generate" in node else {}
