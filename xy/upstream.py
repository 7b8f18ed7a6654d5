"""What the running prompt has before a node: the settings of all nodes that the values of its inputs come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from comfy_execution.graph_utils import is_link
from comfy_execution.progress import get_progress_state

# Some nodes change a model in place and return the same object, such as PuLID-Flux. Equal objects can then differ.
CHANGED_IN_PLACE = ("model", "clip", "vae")


def settings_before(node: str | None, inputs: Collection[str] = CHANGED_IN_PLACE) -> str:
    """A hash of the nodes before these inputs of a node: their types, settings, connections, and IS_CHANGED.

    The ids of nodes don't count. Empty outside of a prompt.
    """
    prompt: Any = get_progress_state().dynprompt
    if node is None or not prompt.has_node(node):
        return ""
    number = {node: 0}
    order = [node]  # grows while it is read
    nodes: list[object] = []
    for one in order:
        about = prompt.get_node(one)
        settings: list[object] = []
        for name, value in sorted(about["inputs"].items()):
            if one == node and name not in inputs:
                continue
            if is_link(value) and prompt.has_node(value[0]):
                if value[0] not in number:
                    number[value[0]] = len(order)
                    order.append(value[0])
                value = {"from": number[value[0]], "output": value[1]}
            settings.append([name, value])
        kind = [about["class_type"], about.get("is_changed")] if one != node else []
        nodes.append([*kind, settings])
    return hashlib.sha256(json.dumps(nodes, default=_type_name, skipkeys=True).encode()).hexdigest()


def _type_name(value: object) -> str:
    """Of values that aren't plain: their text would have an address, which is another in each run."""
    return type(value).__name__
