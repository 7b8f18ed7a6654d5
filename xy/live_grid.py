"""Shows the grid on its node while it is sampled: a picture of the cells so far, and the time that is left.

ComfyUI's own previews can't: the page keeps the last latent in place of the node's picture, and a stop loses it. So the
picture goes into ComfyUI's temp folder, and an event of our own tells the page about it (web/grid_view.js).
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from PIL import Image
from torch import Tensor

from ..pictures.grid_layout import GridLayout
from ..pictures.labelled_grid import labelled_grid, layout_of, scaled
from .pace import Pace, duration
from .pick import Place, text_of
from .sampling import Sampling

log = logging.getLogger(__name__)

EVENT = "pm-xy-grid"
# Of the picture while sampling. That of a finished grid is as large as its cells make it.
MAX_SIDE = 1600
QUALITY = 90
# Between two pictures, and at least this many times as long as one takes to draw.
MIN_SECONDS = 0.5
DRAWING_TIMES = 10


@dataclass(frozen=True)
class PageNode:
    """The node that shows a grid: its id, and that of its workflow, since another workflow may have the same node id.

    ``workflow`` is None for a prompt that no page has queued.
    """

    node: str
    workflow: str | None = None

    @classmethod
    def of(cls, node: str | None, extra_pnginfo: object) -> PageNode | None:
        """From a node's hidden inputs: pages put the workflow into what is written into pictures."""
        workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, Mapping) else None
        found = workflow.get("id") if isinstance(workflow, Mapping) else None
        return None if node is None else cls(node, found if isinstance(found, str) else None)


class LiveGrid:
    """What the page is told about a run. ``node`` is the grid's node; None shows nothing.

    ``plan`` has the sampling settings of every cell, row by row; ``told`` is the node's name in the log.
    """

    def __init__(
        self,
        node: PageNode | None,
        columns: Sequence[str],
        rows: Sequence[str],
        plan: dict[Place, Sampling],
        told: str = "PM XY Grid",
    ) -> None:
        self._told = told
        self._node, self._columns, self._rows, self._plan = node, list(columns), list(rows), plan
        self._size = 1 + max(column for column, _ in plan), 1 + max(row for _, row in plan)
        self._pace = Pace()
        self._cells: dict[Place, Tensor] = {}  # scaled down, in floats
        self._current: Place | None = None
        self._running = True
        self._run = uuid.uuid4().hex[:12]
        self._files: list[Path] = []
        self._layout: GridLayout | None = None
        self._draw_next = 0.0

    def begins(self, place: Place) -> None:
        """A cell is about to be patched or sampled."""
        if self._current != place:
            self._pace.begins()
            self._current = place
            self._show(draw=not self._files)

    def finished(self, place: Place, picture: Tensor) -> None:
        """A cell (height, width, 3) in bytes is finished, or was kept from an earlier run."""
        if self._layout is None:
            others = [None] * (len(self._plan) - 1)
            self._layout = layout_of([picture, *others], self._size[0], self._columns, self._rows, max_side=MAX_SIDE)
        sampled, self._current = self._current == place, None
        self._cells[place] = scaled(picture, self._layout.cell_width, self._layout.cell_height)
        if sampled:
            first = self.seconds_left is None
            self._pace.finished(self._plan[place].steps)
            left = self.seconds_left
            if first and left:
                missing = len(self._plan) - len(self._cells)
                log.info("%s: about %s left for %d cells.", self._told, duration(left), missing)
            self._show(draw=time.monotonic() >= self._draw_next)

    def stopped(self) -> None:
        """The run ends without the other cells."""
        self._running, self._current = False, None
        self._show(draw=True)

    @property
    def seconds_left(self) -> float | None:
        return self._pace.seconds_for(sum(one.steps for place, one in self._plan.items() if place not in self._cells))

    def state(self) -> dict[str, Any]:
        """What the page needs to show the grid without its picture."""
        left = self.seconds_left
        return {
            "size": list(self._size),
            "columns": self._columns,
            "rows": self._rows,
            "running": self._running and len(self._cells) < len(self._plan),
            "done": [text_of(place) for place in self._cells],
            "now": None if self._current is None else text_of(self._current),
            "seconds_left": None if left is None else round(left, 1),
            "workflow": None if self._node is None else self._node.workflow,
        }

    def _show(self, draw: bool) -> None:
        if self._node is None:
            return
        to = _server()
        # without a client, the prompt is a program's: the event would go to every page
        if to is None or to.client_id is None:
            return
        if draw and self._cells:
            self._try_to_draw()
        state = {"node": self._node.node, **self.state()}
        if self._files and self._layout is not None:
            state["layout"] = self._layout.shares()
            state["picture"] = {"filename": self._files[-1].name, "subfolder": "", "type": "temp"}
        to.send_sync(EVENT, state, to.client_id)

    def _try_to_draw(self) -> None:
        """Draw the picture. A folder that can't be written to, or a full disk, is no reason to end the sampling."""
        try:
            self._draw()
        except OSError as error:
            self._draw_next = math.inf
            log.warning("%s can't show the cells so far: %s", self._told, error)

    def _draw(self) -> None:
        begun = time.monotonic()
        cells = [self._cells.get(place) for place in self._plan]
        picture = labelled_grid(cells, self._size[0], self._columns, self._rows)[0]
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        # a new name each time, because the page may still be reading the last one
        file = folder / f"PM.XY_{self._run}_{len(self._cells):05}.jpg"
        Image.fromarray(picture.mul(255).byte().numpy()).save(file, quality=QUALITY)
        if file not in self._files:
            self._files.append(file)
        done = time.monotonic()
        self._draw_next = done + max(MIN_SECONDS, DRAWING_TIMES * (done - begun))
        self._files = [*filter(_remains, self._files[:-2]), *self._files[-2:]]


def _remains(file: Path) -> bool:
    """Whether a file is still there after deleting it: on Windows it can't be while a page reads it."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return True
    return False


def _server() -> Any:
    """ComfyUI's server; None where its nodes run without one."""
    from server import PromptServer  # not on top: it can't be imported without a server

    return getattr(PromptServer, "instance", None)
