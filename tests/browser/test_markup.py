"""Names and messages that look like markup are shown as text."""

from __future__ import annotations

import os
import shutil

import pytest
from lora_pack.tests.browser.canvas import NODES2, Canvas
from lora_pack.tests.browser.test_growing_inputs import LOADER, MERGER

MARKUP = "<img src=x onerror=window.pwned=1>"
SAVER = "PM LoRA Save"
# sorts last: the page keeps it in its lists, and the first one is the default of new nodes
FILE = f"z{MARKUP}.safetensors"


def assert_text(canvas: Canvas) -> None:
    for _ in range(3):
        canvas.call("frame")
    assert canvas.page.evaluate("() => [window.pwned, document.querySelectorAll('img[src=x]').length]") == [None, 0]


def test_assert_text_detects_markup(canvas: Canvas):
    canvas.page.evaluate("text => { document.body.insertAdjacentHTML('beforeend', text) }", MARKUP)
    try:
        canvas.until("window.pwned === 1")
        with pytest.raises(AssertionError):
            assert_text(canvas)
    finally:
        canvas.page.evaluate("() => { document.querySelector('img[src=x]').remove(); delete window.pwned }")


@pytest.mark.parametrize("kind", [MERGER, SAVER])
def test_markup_in_a_nodes_result_is_shown_as_text(canvas: Canvas, kind: str):
    node = canvas.call("add", kind, 600, 150)
    event = {"node": str(node), "display_node": str(node), "prompt_id": "of a program"}
    lines = [MARKUP, "</textarea>" + MARKUP]
    canvas.page.evaluate(
        "detail => { window.comfyAPI.api.api.dispatchCustomEvent('executed', detail) }",
        event | {"output": {"text": lines}},
    )
    text = "\n".join(lines)
    canvas.until("pm.widget(argument[0], 'result').value === argument[1]", [node, text])
    if canvas.kind == NODES2:
        canvas.until("pm.drawn(argument[0]).includes(argument[1])", [node, text])
    assert_text(canvas)


@pytest.mark.skipif(os.name == "nt", reason="Windows doesn't allow such file names")
def test_markup_in_file_names_and_errors_is_shown_as_text(canvas: Canvas):
    loras = canvas.server.loras
    shutil.copy(loras / "b.safetensors", loras / FILE)
    try:
        loader = canvas.call("add", LOADER, 200, 150, {"lora_name": FILE})
        merger, saver = canvas.call("add", MERGER, 600, 150), canvas.call("add", SAVER, 1000, 150)
        canvas.call("connect", loader, merger, "lora1")
        canvas.call("connect", merger, saver, "lora")
        canvas.call("choose", saver, "file_name", f"markup/{canvas.kind}")
        canvas.call("queue")
        canvas.until("/safetensors$/.test(pm.widget(argument, 'result')?.value)", saver)
        assert_text(canvas)
        canvas.call("choose", saver, "file_name", MARKUP)  # PM Save LoRA refuses it
        canvas.call("queue")
        said = "document.body.innerText.includes(argument)"
        canvas.until(f"{said} || document.body.innerText.includes('View details')", "can't be used")
        details = canvas.page.get_by_role("button", name="View details")  # newer pages hide the text behind it
        if not canvas.page.evaluate(f"(argument) => {said}", "can't be used") and details.count():
            details.first.click()
        canvas.until(said, "can't be used")
        assert_text(canvas)
        canvas.page.keyboard.press("Escape")
    finally:
        (loras / FILE).unlink()
