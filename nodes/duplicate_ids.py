"""Warns in the log if another pack registers the same node ids, as the older Power-Merger packs do."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from server import PromptServer

import nodes as comfy_nodes  # ComfyUI's

log = logging.getLogger(__name__)


def warn_about_duplicate_ids(ours: Mapping[str, type]) -> None:
    """Check now, for packs loaded before this one, and again when the server starts, for packs loaded after it."""
    _warn(ours)
    server = getattr(PromptServer, "instance", None)
    if server is not None:  # there is none if the pack is imported without a server

        async def check_again(_: object) -> None:
            _warn(ours)

        server.app.on_startup.append(check_again)


def _warn(ours: Mapping[str, type]) -> None:
    for module, ids in sorted(_duplicates(ours).items()):
        log.warning(
            "The pack in %s registers the same nodes (%s), so only one pack's versions are active. "
            "Remove or disable one of the packs.",
            module.replace(".", "/"),
            ", ".join(ids),
        )


def _duplicates(ours: Mapping[str, type]) -> dict[str, list[str]]:
    """Our ids that another pack has registered, by that pack's module name (custom_nodes.its-folder)."""
    registered: dict[str, type] = comfy_nodes.NODE_CLASS_MAPPINGS  # pyright: ignore[reportAttributeAccessIssue]
    found: dict[str, list[str]] = {}
    for name, node in ours.items():
        present = registered.get(name)
        if present is not None and present is not node:
            found.setdefault(getattr(present, "RELATIVE_PYTHON_MODULE", "?"), []).append(name)
    return found
