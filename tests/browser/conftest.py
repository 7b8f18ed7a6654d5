"""A real browser on a real ComfyUI with its front end: `canvas` is a page with an empty graph.

Every test that uses `canvas` runs on the classic canvas and in Nodes 2.0. BROWSER names a Chromium; without it, one on
the PATH or playwright's own is used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lora_pack.tests.browser.canvas import CANVASES, SCREENSHOTS, Canvas
from lora_pack.tools.comfy_server import Server

# Without the network traffic that the tests don't need.
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    named = os.environ.get("BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as running:
        if not named and not Path(running.chromium.executable_path).is_file():
            pytest.skip("No Chromium: install one, or set BROWSER.")
        chromium = running.chromium.launch(executable_path=named, args=CHROMIUM_ARGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def pages(browser) -> Iterator[dict[str, Canvas]]:
    """One page per kind of canvas, loaded on first use, since loading takes seconds."""
    opened: dict[str, Canvas] = {}
    yield opened
    for canvas in opened.values():
        canvas.page.context.close()


@pytest.fixture(params=CANVASES)
def canvas(request: pytest.FixtureRequest, browser, pages: dict[str, Canvas], server: Server) -> Iterator[Canvas]:
    """A page with an empty graph. The test fails if the page reports an error."""
    kind = request.param
    if kind not in pages:
        pages[kind] = Canvas.open(browser, server, kind)
    canvas = pages[kind]
    canvas.clear()
    yield canvas
    canvas.screenshot(SCREENSHOTS / f"{request.node.name}.png".replace("/", "-"))
    assert canvas.take_errors() == []
