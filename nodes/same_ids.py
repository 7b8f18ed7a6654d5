"""Says in the log when another pack registers ids of ours: the older Power-Merger packs do."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from server import PromptServer

import nodes as comfy_nodes  # ComfyUI's

log = logging.getLogger(__name__)


def watch_for_same_ids(ours: Mapping[str, type]) -> None:
    """Look at once, for packs that were loaded before, and when the server starts, for those that come after."""
    _warn(ours)
    server = getattr(PromptServer, "instance", None)
    if server is not None:  # none where the pack is imported without a server

        async def look_again(_: object) -> None:
            _warn(ours)

        server.app.on_startup.append(look_again)


def _warn(ours: Mapping[str, type]) -> None:
    for module, ids in sorted(_others(ours).items()):
        log.warning(
            "LoRA Power-Merger: the pack in %s registers the same nodes (%s), and only one of the two can have them. "
            "Remove or disable one of the packs.",
            module.replace(".", "/"),
            ", ".join(ids),
        )


def _others(ours: Mapping[str, type]) -> dict[str, list[str]]:
    """The ids that a class of another pack stands for, by that pack's module name (custom_nodes.its-folder)."""
    registered: dict[str, type] = comfy_nodes.NODE_CLASS_MAPPINGS  # pyright: ignore[reportAttributeAccessIssue]
    found: dict[str, list[str]] = {}
    for name, node in ours.items():
        present = registered.get(name)
        if present is not None and present is not node:
            found.setdefault(getattr(present, "RELATIVE_PYTHON_MODULE", "?"), []).append(name)
    return found
