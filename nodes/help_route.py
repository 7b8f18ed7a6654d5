"""Serves the help pages of nodes whose id holds a colon, which no file name may hold on Windows.

The page asks for docs/<id>/<locale>.md and then for docs/<id>.md; the files are named as the ids, without colons.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from server import PromptServer

PACK = Path(__file__).parents[1]  # not resolved: ComfyUI serves the pack under the name that it finds it by
DOCS = PACK / "web" / "docs"


def serve_help() -> None:
    """Add the route to ComfyUI's server; it comes before that of the files in web/."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:  # none where the pack is imported without a server
        server.routes.get(f"/extensions/{PACK.name}/docs/{{page:[^:]*:.*[.]md}}")(_help_page)


async def _help_page(request: web.Request) -> web.FileResponse:
    path = (DOCS / request.match_info["page"].replace(":", "")).resolve()
    if not path.is_relative_to(DOCS.resolve()) or not path.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(path, headers={"Content-Type": "text/markdown; charset=utf-8"})
