"""Scores on PM XY Grid's node, and PM Find Strengths, on the page."""

from __future__ import annotations

import pytest
from lora_pack.tests.browser.canvas import Canvas
from lora_pack.tests.browser.test_xy_grid import CELL, STATUS, build, new_seed, run, shot
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import CHECKPOINT

ENCODER, FIND, LOADER = "Small Image Encoder", "PM LoRA Find Strengths", "PM LoRA Loader"
PICTURE = "document.querySelector('.pm-grid-stage img')"


def test_the_best_cell_has_a_frame_and_every_cell_its_score(canvas: Canvas):
    grid = build(canvas, 7)
    encoder = canvas.call("add", ENCODER, 20, 900, {"kind": "pixels"})
    canvas.call("connect", encoder, grid, "clip_vision", 0)
    run(canvas)
    shot(canvas, "scores")
    canvas.page.locator(CELL.format("2,1")).click()
    canvas.until("!document.querySelector('.pm-grid-panel').hidden")
    assert canvas.page.locator(".pm-grid-about").inner_text().startswith("score: 0.")


@pytest.fixture
def search(canvas: Canvas) -> int:
    """A workflow with PM Find Strengths for two LoRAs; the id of that node."""
    canvas.page.set_viewport_size({"width": 1600, "height": 1900})
    checkpoint = canvas.call("add", "CheckpointLoaderSimple", 20, 60, {"ckpt_name": CHECKPOINT})
    latent = canvas.call("add", "EmptyLatentImage", 20, 300, {"width": 64, "height": 64})
    encoder = canvas.call("add", ENCODER, 20, 460, {"kind": "pixels"})
    widgets = {"seed": new_seed(canvas, 11), "steps": 4, "cfg": 4, "positive": "a lighthouse", "budget": 11}
    find = canvas.call("add", FIND, 480, 60, widgets | {"device": "cpu", "dtype": "float32"})
    for name, slot in (("model", 0), ("clip", 1), ("vae", 2)):
        canvas.call("connect", checkpoint, find, name, slot)
    canvas.call("connect", latent, find, "latent_image", 0)
    canvas.call("connect", encoder, find, "clip_vision", 0)
    for number, file in enumerate(("a.safetensors", "b.safetensors"), 1):
        lora = canvas.call("add", LOADER, 20, 360 + 240 * number, {"lora_name": file})
        canvas.until("pm.node(argument[0]).inputs.some(i => i.name === argument[1])", [find, f"lora{number}"])
        canvas.call("connect", lora, find, f"lora{number}", 0)
    return find


def test_a_search_shows_every_picture_and_then_the_best(canvas: Canvas, search: int):
    canvas.until(f"{STATUS} === '11 pictures x 4 steps'")
    canvas.call("queue")
    canvas.until(f"/^cell ([5-9]|10).11: a [01].*, b [01]/.test({STATUS})")
    canvas.until(f"{PICTURE}?.src.includes('.jpg') && {PICTURE}.naturalWidth > 0")
    shot(canvas, "searching")
    canvas.until(f"{PICTURE}?.src.includes('.png') && {PICTURE}.naturalWidth > 0")
    canvas.until("/^best: a /m.test(pm.widget(argument, 'result').value)", search)
    shot(canvas, "found")
    assert canvas.page.locator("[role=gridcell]:enabled").count() == 0


def test_a_stopped_search_keeps_its_best_on_the_node(canvas: Canvas, search: int, server: Server):
    canvas.call("choose", search, "budget", 12)
    canvas.call("choose", search, "seed", new_seed(canvas, 12))
    canvas.call("queue")
    canvas.until(f"/^cell [6-9].12/.test({STATUS})")
    server.interrupt()
    canvas.until(f"/^Stopped after [5-9] of 12/.test({STATUS})")
    canvas.until("/^stopped after [5-9] of 12 pictures/m.test(pm.widget(argument, 'result').value)", search)
    shot(canvas, "search-stopped")
