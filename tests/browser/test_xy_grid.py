"""PM XY Grid on the page, with live previews switched on: it grows while it samples, and a click picks a cell."""

from __future__ import annotations

import itertools

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, SCREENSHOTS, Canvas
from lora_pack.tests.browser.layout import show_all
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import CHECKPOINT

GRID, AXES, SAVE = "PM XY Grid", "XY: PM LoRA Strengths", "PM LoRA Save"
STATUS = "document.querySelector('.pm-grid-status').textContent"
CELL = ".pm-grid-stage [data-cell='{}']"


def build(canvas: Canvas, seed: int, **settings: object) -> int:
    """A workflow with a grid of 2 x 2 cells; the id of its grid."""
    canvas.page.set_viewport_size({"width": 1600, "height": 1500})
    checkpoint = canvas.call("add", "CheckpointLoaderSimple", 20, 60, {"ckpt_name": CHECKPOINT})
    latent = canvas.call("add", "EmptyLatentImage", 20, 300, {"width": 64, "height": 64})
    files = {"lora_a": "a.safetensors", "lora_b": "b.safetensors"}
    axes = canvas.call("add", AXES, 20, 480, files | {"device": "cpu", "dtype": "float32", "steps": 2})
    widgets = {"seed": seed, "steps": 2, "cfg": 4, "positive": "a lighthouse", "negative": "blurry"}
    grid = canvas.call("add", GRID, 480, 60, widgets | settings)
    canvas.page.evaluate("id => { const w = pm.widget(id, 'control_after_generate'); if (w) w.value = 'fixed' }", grid)
    for name, slot in (("model", 0), ("clip", 1), ("vae", 2)):
        canvas.call("connect", checkpoint, grid, name, slot)
    canvas.call("connect", latent, grid, "latent_image", 0)
    canvas.call("connect", axes, grid, "X", 0)
    canvas.call("connect", axes, grid, "Y", 1)
    return grid


def new_seed(canvas: Canvas, seed: int) -> int:
    """A seed that the other canvas doesn't use: the server keeps its cells."""
    return seed + 100 * (canvas.kind == CLASSIC)


def shot(canvas: Canvas, name: str) -> None:
    canvas.call("frame")
    canvas.screenshot(SCREENSHOTS / f"grid-{name}-{canvas.kind}.png")


def run(canvas: Canvas) -> None:
    canvas.call("queue")
    canvas.until("document.querySelector('.pm-grid-stage img[src*=\".png\"]')?.naturalWidth > 0")
    canvas.until("document.querySelector('.pm-grid-bar').hidden")


def test_the_grid_grows_while_it_samples(canvas: Canvas):
    grid = build(canvas, new_seed(canvas, 1), steps=6)
    canvas.until(f"{STATUS} === '4 cells x 6 steps'")
    canvas.call("queue")
    canvas.until(f"/^cell [23].4: . 1.00 x|^cell [234].4: .*left$/.test({STATUS})")
    canvas.until("document.querySelector('.pm-grid-stage img[src*=\".jpg\"]')?.naturalWidth > 0")
    shot(canvas, "growing")
    canvas.until("document.querySelector('.pm-grid-stage img[src*=\".png\"]')?.naturalWidth > 0")
    canvas.until(f"{STATUS} === '4 cells x 6 steps'")
    shot(canvas, "finished")
    assert canvas.page.evaluate("id => pm.node(id).imgs ?? null", grid) is None
    assert "$$canvas-image-preview" not in canvas.call("widgets", grid)
    shown = canvas.page.locator("[data-node-id] img:visible, .pm-grid img:visible")
    sources = shown.evaluate_all("all => [...new Set(all)].map(one => one.src)")
    assert len([one for one in sources if "PM.XY" in one]) == 1, "the node shows the grid a second time"


def test_a_picked_cell_is_saved_without_sampling(canvas: Canvas, server: Server):
    grid = build(canvas, 2)
    save = canvas.call("add", SAVE, 1100, 60, {"file_name": f"picked_{canvas.kind}", "overwrite": True})
    canvas.call("connect", grid, save, "lora", 2)
    run(canvas)
    file = server.loras / f"picked_{canvas.kind}.safetensors"
    assert not file.exists(), "without a pick nothing is saved"
    canvas.page.locator(CELL.format("2,1")).click()
    canvas.until_equal("pm.widget(id, 'pick').value", grid, "2,1")
    canvas.until("!document.querySelector('.pm-grid-panel').hidden")
    assert "a.safetensors: 1" in canvas.page.locator(".pm-grid-about").inner_text()
    shot(canvas, "picked")
    before = len(server.log())
    canvas.call("queue")
    server.until(file.exists, "the saved LoRA")
    assert "4 kept" in server.log()[before:]


def test_cells_are_picked_with_the_keyboard_and_after_a_reload(canvas: Canvas):
    grid = build(canvas, 2)
    run(canvas)
    canvas.page.locator(CELL.format("1,1")).focus()
    canvas.page.keyboard.press("ArrowRight")
    canvas.page.keyboard.press("ArrowDown")
    canvas.page.keyboard.press("Enter")
    canvas.until_equal("pm.widget(id, 'pick').value", grid, "2,2")
    canvas.call("reload")
    canvas.until("document.querySelector('.pm-grid-stage img[src*=\".png\"]')?.naturalWidth > 0")
    canvas.until("document.querySelector(argument).getAttribute('aria-selected') === 'true'", CELL.format("2,2"))
    canvas.page.locator(CELL.format("1,2")).click()
    canvas.until_equal("pm.widget(id, 'pick').value", grid, "1,2")
    shot(canvas, "reloaded")


def test_the_nodes_of_a_picked_cell(canvas: Canvas):
    build(canvas, 2)
    run(canvas)
    canvas.page.locator(CELL.format("2,2")).click()
    canvas.page.get_by_role("button", name="Make this cell's nodes").click()
    canvas.until("pm.ids('PM LoRA Save').length === 1 && pm.origins(pm.ids('PM LoRA Save')[0]).lora")
    canvas.until("pm.ids('PM LoRA Merger').length === 1 && pm.origins(pm.ids('PM LoRA Merger')[0]).lora2")
    shot(canvas, "nodes")
    show_all(canvas)
    made = [box for box in canvas.call("boxes") if box[1] in ("PM Load LoRA", "PM Merge LoRA", "PM Save LoRA")]
    assert len(made) == 4
    for one, other in itertools.combinations(made, 2):
        assert not overlap(one[2:], other[2:]), (one, other)


def overlap(a: list[float], b: list[float]) -> bool:
    return all(a[side] < b[side] + b[side + 2] and b[side] < a[side] + a[side + 2] for side in (0, 1))


@pytest.mark.parametrize("mode", [2, 4], ids=["muted", "bypassed"])
def test_an_axis_that_is_switched_off_is_not_counted(canvas: Canvas, mode: int):
    build(canvas, 2)
    canvas.until(f"{STATUS} === '4 cells x 2 steps'")
    canvas.call("setMode", canvas.call("ids", AXES)[0], mode)
    canvas.call("changed")
    canvas.until(f"{STATUS} === '1 cell x 2 steps'")


def test_the_nodes_of_a_picked_cell_have_its_exact_numbers(canvas: Canvas):
    """The page rounds what is typed into a number's widget to the two decimals that it shows."""
    build(canvas, 2)
    canvas.page.evaluate("type => { pm.widget(pm.ids(type)[0], 'values').value = '0.125, 0.3333' }", AXES)
    run(canvas)
    canvas.page.locator(CELL.format("1,2")).click()
    canvas.page.get_by_role("button", name="Make this cell's nodes").click()
    canvas.until("pm.ids('PM LoRA Merger').length === 1 && pm.origins(pm.ids('PM LoRA Merger')[0]).lora2")
    both = "['strength_model', 'strength_clip'].map(name => pm.widget(id, name).value)"
    strengths = canvas.page.evaluate(f"pm.ids('PM LoRA Loader').map(id => {both})")
    assert strengths == [[0.125, 0.125], [0.3333, 0.3333]]


def test_a_stopped_grid_keeps_its_cells(canvas: Canvas, server: Server):
    build(canvas, new_seed(canvas, 3), steps=12)
    canvas.call("queue")
    canvas.until(f"/^cell [234].4/.test({STATUS})")
    canvas.until("document.querySelector('.pm-grid-stage img[src*=\".jpg\"]')?.naturalWidth > 0")
    server.interrupt()
    canvas.until(f"/^Stopped after [123] of 4 cells/.test({STATUS})")
    shot(canvas, "stopped")
    before = len(server.log())
    run(canvas)
    assert "4 cells" in server.log()[before:] and "kept" in server.log()[before:]


def test_a_run_is_shown_in_its_own_workflow_only(canvas: Canvas, server: Server):
    build(canvas, new_seed(canvas, 4), steps=6)
    mine = canvas.call("serialize")
    canvas.call("queue")
    canvas.until(f"/^cell 2.4/.test({STATUS})")
    canvas.call("load", mine | {"id": "00000000-0000-4000-8000-000000000001"})  # the same nodes in another workflow
    assert canvas.page.evaluate(STATUS) == "4 cells x 6 steps"
    server.until(lambda: not server.get("/queue")["queue_running"], "the end of the run")
    assert canvas.page.evaluate(STATUS) == "4 cells x 6 steps"
    assert canvas.page.evaluate("document.querySelector('.pm-grid-stage').hidden")
    canvas.call("load", mine)
    canvas.until("document.querySelector('.pm-grid-stage img[src*=\".png\"]')?.naturalWidth > 0")
    canvas.until(f"{STATUS} === '4 cells x 6 steps'")


def test_a_run_is_followed_after_the_page_is_loaded_again(canvas: Canvas, server: Server):
    build(canvas, new_seed(canvas, 5), steps=20, max_cells=400)
    canvas.call("choose", canvas.call("ids", AXES)[0], "steps", 20)
    mine = canvas.call("serialize")
    canvas.call("queue")
    canvas.until(f"/^cell 2.400/.test({STATUS})")
    canvas.load_again()
    canvas.call("load", mine)
    canvas.until(f"/^cell [0-9]+.400: /.test({STATUS})")
    server.interrupt()
    canvas.until(f"/^Stopped after [0-9]+ of 400 cells/.test({STATUS})")


def test_a_cell_is_picked_in_a_subgraph(canvas: Canvas):
    outer = canvas.call("toSubgraph", [build(canvas, 2)])
    grid = canvas.call("innerId", outer, GRID)
    canvas.page.evaluate("id => app.canvas.openSubgraph(pm.node(id).subgraph, pm.node(id))", outer)
    canvas.until("document.querySelector('.pm-grid')")
    run(canvas)
    # newer pages show a subgraph so large that the cell lies outside
    view = "app.canvas.ds.scale = 0.8; app.canvas.ds.offset = Array.from(pm.node(id).pos, at => 150 - at)"
    canvas.page.evaluate(f"id => {{ {view}; app.canvas.setDirty(true, true) }}", grid)
    canvas.call("frame")
    canvas.page.locator(CELL.format("1,2")).click()
    canvas.until_equal("pm.widget(id, 'pick').value", grid, "1,2")
    assert canvas.prompt()[grid]["inputs"]["pick"] == "1,2"
    shot(canvas, "subgraph")
    canvas.page.evaluate("app.canvas.setGraph(app.rootGraph ?? app.graph)")


def test_too_many_cells_are_told_before_the_run(canvas: Canvas):
    grid = build(canvas, 2)
    axes = canvas.call("ids", AXES)[0]
    canvas.call("choose", axes, "steps", 30)
    canvas.call("changed")
    canvas.until(f"{STATUS} === '900 cells: more than max_cells (400) allows'")
    canvas.call("choose", grid, "max_cells", 1000)
    canvas.call("changed")
    canvas.until(f"{STATUS} === '900 cells x 2 steps'")
