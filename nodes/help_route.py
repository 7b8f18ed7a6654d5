"""Serves help pages for nodes whose id contains a colon, which Windows doesn't allow in file names.

The front end requests docs/<id>/<locale>.md, then docs/<id>.md; our files are named after the ids without colons.
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from server import PromptServer

PACK = Path(__file__).parents[1]  # not resolved: ComfyUI serves a linked pack under the link's name
DOCS = PACK / "web" / "docs"


def serve_help() -> None:
    """Add the route to ComfyUI's server, ahead of its route for the files in web/."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:  # there is none if the pack is imported without a server
        server.routes.get(f"/extensions/{PACK.name}/docs/{{page:[^:]*:.*[.]md}}")(_help_page)


async def _help_page(request: web.Request) -> web.FileResponse:
    # looked up among the existing pages: never build a path from the request
    wanted = request.match_info["page"].replace(":", "")
    page = next((path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).as_posix() == wanted), None)
    if page is None:
        raise web.HTTPNotFound
    return web.FileResponse(page, headers={"Content-Type": "text/markdown; charset=utf-8"})
