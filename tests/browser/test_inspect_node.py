"""PM Inspect LoRA on the page: another input appears, and the picture is shown large enough to be read."""

from __future__ import annotations

import pytest
from lora_pack.tests.browser.canvas import SCREENSHOTS, Canvas

LOADER, INSPECT = "PM LoRA Loader", "PM LoRA Inspect"


@pytest.fixture(scope="module", autouse=True)
def new_pages(pages: dict[str, Canvas]) -> None:
    """Pages that have shown no pictures of nodes with the same ids yet."""
    for canvas in pages.values():
        canvas.page.context.close()
    pages.clear()


def test_the_node_grows_to_show_its_picture(canvas: Canvas):
    look = canvas.call("add", INSPECT, 700, 120)
    for number, name in enumerate(("a.safetensors", "b.safetensors"), 1):
        loader = canvas.call("add", LOADER, 300, 300 * number - 180)
        canvas.call("choose", loader, "lora_name", name)
        canvas.until("pm.node(argument[0]).inputs.some(i => i.name === argument[1])", [look, f"lora{number}"])
        canvas.call("connect", loader, look, f"lora{number}", 0)
    canvas.until("pm.node(argument).inputs.some(i => i.name === 'lora3')", look)
    canvas.call("queue")
    canvas.until(
        "(pm.node(argument).imgs ?? []).length > 0 || document.querySelector('img[src*=\"PM.Inspect\"]')", look
    )
    # Nodes 2.0 measures the node again once its picture is there
    canvas.until("pm.node(argument).size[0] >= 400 && pm.node(argument).size[1] > pm.node(argument).size[0]", look)
    canvas.until("pm.node(argument).size[1] > 600", look)
    canvas.page.wait_for_timeout(500)
    canvas.screenshot(SCREENSHOTS / f"inspect-{canvas.kind}.png")
