"""Routes for the page: GET /lora_power_merger/facts and /lora_power_merger/preview.

- facts?name=FILE: family, rank, size, trigger words, fitting block presets. With details=1 also norm and recipe.
  Without a name: family and summary of every file.
- preview?name=FILE: the picture beside the file.

FILE is a name that ComfyUI lists for its loras folders; nothing else is looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web
from server import PromptServer

from ..merge.provenance.sidecars import PICTURES
from . import lora_facts

ROOT = "/lora_power_merger"
MAX_NAME = 4096

T = TypeVar("T")


def serve_facts() -> None:
    """Add the routes to ComfyUI's server."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:  # there is none if the pack is imported without a server
        server.routes.get(f"{ROOT}/facts")(_facts)
        server.routes.get(f"{ROOT}/preview")(_preview)


async def _facts(request: web.Request) -> web.Response:
    name = _name(request)
    if name is None:
        return web.json_response(await _in_thread(lora_facts.overview))
    tell = lora_facts.details if request.query.get("details") == "1" else lora_facts.facts
    return web.json_response(await _in_thread(lambda: tell(name)))


async def _preview(request: web.Request) -> web.StreamResponse:
    name = _name(request)
    path = await _in_thread(lambda: lora_facts.preview(name or ""))
    if path is None:
        raise web.HTTPNotFound
    headers = {
        "Content-Type": PICTURES[path.suffix.lower()],
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return web.FileResponse(path, headers=headers)


def _name(request: web.Request) -> str | None:
    name = request.query.get("name")
    if name is not None and len(name) > MAX_NAME:
        raise web.HTTPBadRequest
    return name


async def _in_thread(work: Callable[[], T]) -> T:
    """The result of blocking work; ComfyUI's server goes on answering."""
    return await asyncio.get_running_loop().run_in_executor(None, work)
