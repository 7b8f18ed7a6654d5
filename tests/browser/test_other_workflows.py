"""Results reach the workflow that was run, while another is open whose nodes have the same ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lora_pack.tests.browser.canvas import SCREENSHOTS, Canvas
from lora_pack.tests.browser.test_growing_inputs import merger_with
from lora_pack.tests.browser.test_results import close_dialogs, result, saved_from, toasts
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import checkpoint, picture

ANOTHER = "00000000-0000-4000-8000-000000000002"
INSPECT = "PM LoRA Inspect"
IMAGES = "[...(app.nodeOutputs[id]?.images ?? [])].map(image => image.filename)"
DRAWN = "[...document.querySelectorAll(`[data-node-id='${id}'] img`)].length"


@contextmanager
def held(server: Server) -> Iterator[None]:
    """What the page queues waits until the end of the block."""
    slow = server.queue({**checkpoint(), **picture(seed=77, steps=5000)})
    server.until(lambda: server.get("/queue")["queue_running"], "the slow run")
    try:
        yield
    finally:
        server.interrupt()
        server.until(lambda: slow in server.get("/history"), "its end")


def queue(canvas: Canvas) -> None:
    """Queue the workflow, without waiting for its run."""
    canvas.call("queue")


def end(canvas: Canvas, server: Server) -> None:
    """Wait until all runs are over, and the page knows."""
    server.until(lambda: not any(server.get("/queue").values()), "the end of the run")
    canvas.page.evaluate("() => fetch('/queue')")
    for _ in range(3):
        canvas.call("frame")


@pytest.fixture(params=["another workflow", "a copy in a second tab"])
def other(request: pytest.FixtureRequest, canvas: Canvas) -> Iterator[Any]:
    """Opens a second tab with the nodes of the first: as another workflow, or as what opening a file twice gives."""

    def opened() -> None:
        saved = canvas.call("serialize")
        for node in saved["nodes"]:
            node.get("properties", {}).pop("result", None)
        canvas.call("secondTab", saved | ({"id": ANOTHER} if request.param == "another workflow" else {}))

    yield opened
    canvas.call("closeSecondTab")


def test_the_result_of_another_workflow_is_not_shown_on_a_node_with_the_same_id(
    canvas: Canvas, server: Server, other: Any
):
    merger, (a, b) = merger_with(canvas, 2)
    canvas.call("choose", a, "lora_name", "a.safetensors")
    canvas.call("choose", b, "lora_name", "b.safetensors")
    name = f"tabs/{canvas.kind}"
    save = saved_from(canvas, merger, name)
    canvas.call("choose", save, "overwrite", True)
    inspect = canvas.call("add", INSPECT, 1000, 400)
    canvas.call("connect", merger, inspect, "lora1")
    with held(server):
        queue(canvas)
        other()
    end(canvas, server)
    assert result(canvas, save) == result(canvas, merger) == ""
    assert canvas.page.evaluate(f"id => {IMAGES}", inspect) == []
    canvas.screenshot(SCREENSHOTS / f"other-workflow-{canvas.kind}.png")
    canvas.call("firstTab")
    canvas.until("pm.widget(argument[0], 'result').value === argument[1]", [save, f"{name}.safetensors"])
    assert "\n2 LoRAs: a x 1.0, b x 1.0" in result(canvas, merger)
    canvas.until_equal(f"{IMAGES}.length", inspect, 1)
    canvas.screenshot(SCREENSHOTS / f"own-workflow-{canvas.kind}.png")


def test_the_error_of_another_workflow_is_a_toast_and_stands_on_its_own_node(
    canvas: Canvas, server: Server, other: Any
):
    merger, (a,) = merger_with(canvas, 1)
    canvas.call("choose", a, "lora_name", "a.safetensors")
    canvas.call("choose", merger, "mode", "ties")
    canvas.call("choose", merger, "density", 0)
    canvas.page.evaluate("id => { pm.node(id).title = 'My merge' }", merger)
    saved_from(canvas, merger, "refused")
    with held(server):
        queue(canvas)
        other()
        canvas.page.evaluate("id => { pm.node(id).title = 'Not mine' }", merger)
    end(canvas, server)
    canvas.until("document.querySelectorAll('.p-toast-message-error').length === 1")
    (text,) = [text for text in toasts(canvas) if "density is 0" in text]
    assert text.startswith("My merge, in another workflow")
    assert result(canvas, merger) == ""
    close_dialogs(canvas)
    canvas.call("firstTab")
    canvas.until("pm.widget(argument, 'result').value.startsWith('Error: density is 0')", merger)


def test_a_cached_result_of_another_workflow_is_not_looked_up_for_this_one(canvas: Canvas, server: Server, other: Any):
    merger, (a,) = merger_with(canvas, 1)
    canvas.call("choose", a, "lora_name", "a.safetensors")
    canvas.call("choose", a, "strength_model", 0.71 if canvas.kind == "classic" else 0.72)
    saved_from(canvas, merger, f"tabs/cached_{canvas.kind}")
    queue(canvas)
    end(canvas, server)
    canvas.until("pm.widget(argument, 'result').value", merger)
    canvas.page.evaluate("id => { pm.node(id).properties.result = ''; pm.widget(id, 'result').value = '' }", merger)
    with held(server):
        queue(canvas)
        other()
    end(canvas, server)
    assert result(canvas, merger) == ""
    canvas.call("firstTab")
    canvas.until("pm.widget(argument, 'result').value.includes('1 LoRA')", merger)
