"""PM XY Grid's output ``cells``, which is built only for nodes that use it: 400 pictures of 1024 x 1024 are 4.7 GiB."""

from __future__ import annotations

from typing import Any

from comfy_execution.graph_utils import ExecutionBlocker, is_link
from comfy_execution.progress import get_progress_state
from torch import Tensor

OUTPUT = 1  # among the grid's outputs
OF_THIS_PACK = "XY: PM "  # how the ids of its axes begin
SAID_FROM = 1024**3  # bytes


def is_used(node: str | None) -> bool:
    """Whether the prompt that runs now needs the output ``cells`` of a grid, by its id.

    Also True where it can't be told, and with an axis of another pack: a connection that is made later runs the grid
    again (its IS_CHANGED asks here), and such cells aren't kept from the run before. Muted and bypassed nodes aren't in
    the prompt, and subgraphs are resolved there.
    """
    prompt: Any = get_progress_state().dynprompt
    if node is None or not prompt.has_node(node):
        return True
    inputs = prompt.get_node(node)["inputs"]
    axes = [inputs[name][0] for name in ("X", "Y") if is_link(inputs.get(name))]
    if not all(prompt.get_node(axis)["class_type"].startswith(OF_THIS_PACK) for axis in axes):
        return True
    others = (prompt.get_node(other)["inputs"].values() for other in prompt.all_node_ids())
    return any(is_link(value) and tuple(value) == (node, OUTPUT) for values in others for value in values)


def output(cells: Tensor | None) -> Any:
    """What to give at the output. A node that got nothing without a reason would say so."""
    if cells is not None:
        return cells
    return ExecutionBlocker("PM XY Grid has left out its cells. Change one of its settings and run again.")


def memory_text(cells: Tensor | None) -> str:
    """Such as "4.7 GiB"; empty if it is little."""
    size = 0 if cells is None else cells.nbytes
    return f"{size / 1024**3:.1f} GiB" if size > SAID_FROM else ""
