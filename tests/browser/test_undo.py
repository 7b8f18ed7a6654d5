"""Undo after a run takes back the last edit, not the results of the run."""

from __future__ import annotations

from lora_pack.tests.browser.canvas import CLASSIC, Canvas
from lora_pack.tests.browser.test_growing_inputs import merger_with
from lora_pack.tests.browser.test_results import result, run, saved_from
from lora_pack.tests.browser.test_xy_grid import build, new_seed, shot
from lora_pack.tests.browser.test_xy_grid import run as run_grid

WAIT = "new Promise((resolve) => setTimeout(resolve, 400))"  # longer than Nodes 2.0 takes to lay a node out


def strength(canvas: Canvas, loader: int) -> float:
    return canvas.call("widgets", loader)["strength_model"]


def test_undo_after_a_run_takes_back_the_last_edit_and_keeps_the_result(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    canvas.call("choose", a, "lora_name", "a.safetensors")
    canvas.call("choose", b, "lora_name", "b.safetensors")
    saved_from(canvas, merger, f"undo/{canvas.kind}")
    canvas.prompt()  # the page puts the nodes in their order, which it counts as a change
    canvas.call("changed")
    before, after = (0.3, 0.4) if canvas.kind == CLASSIC else (0.6, 0.7)
    for value in (before, after):
        canvas.call("choose", b, "strength_model", value)
        canvas.call("changed")
    run(canvas)
    canvas.page.evaluate(WAIT)
    text = result(canvas, merger)
    assert f"b x {after}" in text
    canvas.call("changed")
    canvas.call("undo")
    assert strength(canvas, b) == before and result(canvas, merger) == text
    canvas.call("redo")
    assert strength(canvas, b) == after and result(canvas, merger) == text


def test_undo_keeps_a_grid(canvas: Canvas):
    grid = build(canvas, new_seed(canvas, 7301))
    canvas.prompt()
    canvas.call("changed")
    canvas.call("choose", grid, "steps", 1)
    canvas.call("changed")
    run_grid(canvas)
    canvas.page.evaluate(WAIT)
    canvas.call("changed")
    canvas.call("undo")
    assert canvas.call("widgets", grid)["steps"] == 2
    canvas.until("document.querySelector('.pm-grid-stage img')?.naturalWidth > 0")
    canvas.until("document.querySelectorAll('.pm-grid-stage [data-cell]').length === 4")
    shot(canvas, "undo")
