"""Drives a ComfyUI page for the browser tests. All waiting is for conditions, never for a fixed time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tools.comfy_server import Prompt, Server

CLASSIC, NODES2 = "classic", "nodes2"
CANVASES = (CLASSIC, NODES2)
SCREENSHOTS = Path(__file__).resolve().parents[2] / ".artifacts"
VIEWPORT = {"width": 1600, "height": 1000}
DEADLINE = 180_000  # milliseconds; only catches hangs: two canvases draw without a GPU, beside other tests

# No dialogs, no tours, English node names.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.Persist": False,
    "Comfy.Workflow.ShowMissingNodesWarning": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Locale": "en",
    "Comfy.Minimap.Visible": False,
}


def compact(value: object) -> str:
    """JSON formatted like JSON.stringify."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Canvas:
    def __init__(self, page: Any, server: Server, kind: str):
        self.page = page
        self.server = server
        self.kind = kind
        self._errors: list[str] = []
        page.on("pageerror", lambda error: self._errors.append(str(error)))

    @classmethod
    def open(cls, browser: Any, server: Server, kind: str, **settings: object) -> Canvas:
        """Load ComfyUI's page with these user settings."""
        wanted = {**SETTINGS, "Comfy.VueNodes.Enabled": kind == NODES2, **settings}
        server.post("/settings", wanted)
        page = browser.new_context(viewport=VIEWPORT).new_page()
        page.set_default_timeout(DEADLINE)
        # block the network, or the page waits for it
        page.route(lambda url: not url.startswith((server.url, "data:", "blob:")), lambda route: route.abort())
        canvas = cls(page, server, kind)
        page.goto(server.url)
        canvas._ready()
        if kind == NODES2 and not canvas.call("hasSetting", "Comfy.VueNodes.Enabled"):
            page.context.close()
            pytest.skip("This front end has no Nodes 2.0.")
        return canvas

    def load_again(self) -> None:
        """Load the page again, as the same client of the server."""
        self.page.reload()
        self._ready()

    def _ready(self) -> None:
        self.until("window.app?.vueAppReady && window.app.graph && window.LiteGraph")
        self.page.add_script_tag(path=Path(__file__).with_name("page.js"))
        self.until("pm.idle()")

    def call(self, function: str, *arguments: object) -> Any:
        """Call a function of page.js with JSON-serialisable arguments."""
        return self.page.evaluate(f"async arguments => await pm.{function}(...arguments)", list(arguments))

    def until(self, condition: str, argument: object = None) -> None:
        """Wait for a JavaScript condition on `argument`."""
        self.page.wait_for_function(f"argument => ({condition})", arg=argument)

    def until_equal(self, expression: str, id: object, wanted: object) -> None:
        """Wait until a JavaScript expression on the node `id` has this value."""
        try:
            self.until(f"(id => JSON.stringify({expression}))(argument[0]) === argument[1]", [id, compact(wanted)])
        except Exception as error:
            found = self.page.evaluate(f"id => {expression}", id)
            raise AssertionError(f"{expression} of node {id} is {found}, not {wanted}") from error

    def drag(self, start: list[float], end: list[float]) -> None:
        """Drag the mouse between two points on the screen, rendering a frame after each step."""
        mouse = self.page.mouse
        mouse.move(*start)
        self.call("frame")
        mouse.down()
        for share in (0.1, 0.4, 0.7, 1.0, 1.0):
            mouse.move(*(a + share * (b - a) for a, b in zip(start, end, strict=True)))
            self.call("frame")
        mouse.up()
        self.call("frame")

    def open_help(self, node: object) -> str:
        """Select a node by its title, press its info button, and return the text of the help panel."""
        self.call("frame")
        self.call("frame")
        self.page.mouse.click(*self.call("title", node))
        self.page.locator("[data-testid=info-button], .help-button").click()  # the latter in front end 1.26
        panel = self.page.locator(".node-help-content")
        panel.locator("h1, h2, h3, table").first.wait_for()
        self.until("[...document.querySelectorAll('.node-help-content img')].every(image => image.naturalWidth > 0)")
        return panel.inner_text()

    def clear(self) -> None:
        if self.page.viewport_size != VIEWPORT:
            self.page.set_viewport_size(VIEWPORT)
        self.call("load", {"nodes": [], "links": [], "version": 0.4, "last_node_id": 0, "last_link_id": 0})
        self.page.keyboard.press("Escape")  # a dialog about files that a workflow lacks
        self.page.mouse.move(800, 900)
        self._errors.clear()

    def take_errors(self) -> list[str]:
        errors, self._errors = self._errors, []
        return errors

    def screenshot(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file)

    def prompt(self) -> Prompt:
        """The prompt that the page would queue now."""
        return self.call("prompt")
