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
    # found among the pages that there are: no path is made from what was asked for
    wanted = request.match_info["page"].replace(":", "")
    page = next((path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).as_posix() == wanted), None)
    if page is None:
        raise web.HTTPNotFound
    return web.FileResponse(page, headers={"Content-Type": "text/markdown; charset=utf-8"})
