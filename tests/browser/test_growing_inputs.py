"""The LoRA inputs of the mergers grow and close gaps in the page, whatever happens to the graph."""

from __future__ import annotations

import base64
import io
import json

import pytest
from lora_pack.tests.browser.canvas import NODES2, Canvas
from PIL import Image, PngImagePlugin

MERGER = "PM LoRA Merger"
LOADER = "PM LoRA Loader"
MUTED, BYPASSED = 2, 4
PANEL = -10  # the origin id of links from a subgraph's own inputs


def expect_loras(canvas: Canvas, merger: object, *origins: object, drawn: bool = True) -> None:
    """Wait until the merger has inputs lora1, lora2, ... from these nodes and a free one, in the graph and drawn."""
    wanted = [[f"lora{n}", str(origin)] for n, origin in enumerate(origins, 1)] + [[f"lora{len(origins) + 1}", None]]
    canvas.until_equal("pm.loras(id)", merger, wanted)
    if canvas.kind == NODES2 and drawn:
        canvas.until_equal("pm.shown(id)", merger, [name for name, _ in wanted])


def linked(canvas: Canvas, merger: object) -> list[str]:
    """The ids of the nodes whose LoRAs the queued prompt merges, in order. Asserts that the numbers have no gap."""
    inputs = canvas.prompt()[str(merger)]["inputs"]
    numbers = sorted(int(name[4:]) for name in inputs if name.startswith("lora") and name[4:].isdigit())
    assert numbers == list(range(1, len(numbers) + 1))
    return [inputs[f"lora{number}"][0] for number in numbers]


def merger_with(canvas: Canvas, count: int, kind: str = MERGER) -> tuple[int, list[int]]:
    """A merger, and loaders connected to it in order."""
    merger = canvas.call("add", kind, 600, 150)
    loaders = [canvas.call("add", LOADER, 200, 150 + 230 * n) for n in range(count)]
    for number, loader in enumerate(loaders, 1):
        canvas.until("pm.node(argument[0]).inputs.some(i => i.name === argument[1])", [merger, f"lora{number}"])
        canvas.call("connect", loader, merger, f"lora{number}")
    expect_loras(canvas, merger, *loaders)
    return merger, loaders


def texts(ids: list[int]) -> list[str]:
    return [str(each) for each in ids]


@pytest.mark.parametrize("kind", [MERGER, "PM LoRA SVD Merger"])
def test_connecting_the_last_input_adds_a_free_one(canvas: Canvas, kind: str):
    merger, loaders = merger_with(canvas, 5, kind)
    assert linked(canvas, merger) == texts(loaders)


def test_thirty_inputs_survive_a_reload(canvas: Canvas):
    merger, loaders = merger_with(canvas, 30)
    assert linked(canvas, merger) == texts(loaders)
    canvas.call("reload")
    expect_loras(canvas, merger, *loaders)


def test_disconnecting_closes_the_gap_and_keeps_the_order(canvas: Canvas):
    merger, (a, b, c, d) = merger_with(canvas, 4)
    canvas.call("disconnect", merger, "lora2")
    expect_loras(canvas, merger, a, c, d)
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, c, d)
    assert linked(canvas, merger) == [str(c), str(d)]
    canvas.call("connect", b, merger, "lora3")
    expect_loras(canvas, merger, c, d, b)
    canvas.call("connect", a, merger, "lora1")  # replaces c
    expect_loras(canvas, merger, a, d, b)
    for _ in range(3):
        canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger)
    assert linked(canvas, merger) == []


def test_one_loader_can_be_connected_twice(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    canvas.call("connect", a, merger, "lora3")
    expect_loras(canvas, merger, a, b, a)
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, b, a)


def test_deleting_a_loader_closes_its_gap(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    canvas.call("remove", b)
    expect_loras(canvas, merger, a, c)
    assert linked(canvas, merger) == [str(a), str(c)]


def test_inputs_and_order_survive_save_and_load(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    canvas.call("disconnect", merger, "lora2")
    expect_loras(canvas, merger, a, c)
    canvas.call("reload")
    expect_loras(canvas, merger, a, c)
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, c)
    canvas.call("connect", b, merger, "lora2")
    canvas.call("reload")
    expect_loras(canvas, merger, c, b)
    assert linked(canvas, merger) == [str(c), str(b)]


def test_a_workflow_in_a_dropped_picture_opens_with_its_links(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    png = picture_of(canvas.call("serialize"))
    canvas.call("remove", merger)
    canvas.call("drop", "picture.png", "image/png", base64.b64encode(png).decode())
    canvas.until("pm.node(argument)", merger)
    expect_loras(canvas, merger, a, b, c)
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, b, c)
    assert linked(canvas, merger) == [str(b), str(c)]


@pytest.mark.parametrize("kind", [MERGER, "XY: PM LoRA Sweep"])
def test_a_prompt_in_api_format_opens_with_all_its_loras(canvas: Canvas, kind: str):
    merger, (a, _, c, d) = merger_with(canvas, 4, kind)
    save = canvas.call("add", "PM LoRA Save", 1000, 150)
    if kind == MERGER:
        canvas.call("connect", merger, save, "lora")
    canvas.call("setMode", canvas.call("loras", merger)[1][1], MUTED)  # leaves a gap in the prompt
    prompt = canvas.prompt()
    assert linked_names(prompt[str(merger)]["inputs"]) == ["lora1", "lora3", "lora4"]
    canvas.page.evaluate("prompt => app.loadApiJson(prompt, 'api')", prompt)
    expect_loras(canvas, merger, a, c, d)
    assert linked(canvas, merger) == texts([a, c, d])


def linked_names(inputs: dict) -> list[str]:
    return [name for name in inputs if name.startswith("lora") and name[4:].isdigit()]


def picture_of(workflow: dict) -> bytes:
    """A PNG with an embedded workflow, like those of ComfyUI's SaveImage."""
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", json.dumps(workflow))
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def test_copies_of_merger_and_loaders_are_independent(canvas: Canvas):
    merger, loaders = merger_with(canvas, 3)
    pasted = canvas.call("paste", [merger, *loaders])
    (copy,) = set(pasted) & set(canvas.call("ids", MERGER))
    a, b, c = (origin for _, origin in canvas.call("loras", copy)[:3])
    assert {a, b, c} == set(texts(pasted)) - {str(copy)}
    expect_loras(canvas, copy, a, b, c)
    canvas.call("disconnect", copy, "lora2")
    expect_loras(canvas, copy, a, c)
    expect_loras(canvas, merger, *loaders)
    assert linked(canvas, copy) == [a, c]


def test_a_merger_pasted_alone_has_one_free_input(canvas: Canvas):
    merger, loaders = merger_with(canvas, 3)
    (copy,) = canvas.call("paste", [merger])
    expect_loras(canvas, copy)
    canvas.call("connect", loaders[0], copy, "lora1")
    expect_loras(canvas, copy, loaders[0])
    expect_loras(canvas, merger, *loaders)


def test_a_merger_pasted_with_connections_keeps_them(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    (copy,) = canvas.call("paste", [merger], True)
    expect_loras(canvas, copy, a, b, c)
    canvas.call("disconnect", copy, "lora1")
    expect_loras(canvas, copy, b, c)
    expect_loras(canvas, merger, a, b, c)


def test_a_clone_has_one_free_input(canvas: Canvas):
    merger, loaders = merger_with(canvas, 3)
    (copy,) = canvas.call("clone", merger)
    expect_loras(canvas, copy)
    expect_loras(canvas, merger, *loaders)


def test_undo_and_redo_restore_the_links(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    canvas.call("changed")
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, b, c)
    canvas.call("changed")
    canvas.call("undo")
    expect_loras(canvas, merger, a, b, c)
    canvas.call("redo")
    expect_loras(canvas, merger, b, c)
    canvas.call("undo")
    expect_loras(canvas, merger, a, b, c)
    assert linked(canvas, merger) == texts([a, b, c])
    canvas.call("disconnect", merger, "lora2")
    expect_loras(canvas, merger, a, c)


def test_a_state_saved_before_the_gap_was_closed_gets_tidied(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    workflow = canvas.call("serialize")
    saved = next(node for node in workflow["nodes"] if str(node["id"]) == str(merger))
    gone = next(entry for entry in saved["inputs"] if entry["name"] == "lora1").pop("link")
    workflow["links"] = [link for link in workflow["links"] if link[0] != gone]
    for node in workflow["nodes"]:
        for output in node.get("outputs", []):
            output["links"] = [link for link in output.get("links") or [] if link != gone]
    canvas.call("load", workflow)
    expect_loras(canvas, merger, b, c)


def test_a_merger_in_a_subgraph_with_loaders_outside(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    outer = canvas.call("toSubgraph", [merger])
    inner = canvas.call("innerId", outer, MERGER)
    expect_loras(canvas, inner, *[PANEL] * 3, drawn=False)
    assert linked(canvas, inner) == texts([a, b, c])
    canvas.call("disconnect", inner, "lora2")
    expect_loras(canvas, inner, PANEL, PANEL, drawn=False)
    assert linked(canvas, inner) == texts([a, c])
    canvas.call("reload")
    expect_loras(canvas, inner, PANEL, PANEL, drawn=False)
    assert linked(canvas, inner) == texts([a, c])
    canvas.call("disconnect", inner, "lora1")
    expect_loras(canvas, inner, PANEL, drawn=False)
    assert linked(canvas, inner) == [str(c)]


def test_a_merger_in_a_subgraph_with_its_loaders(canvas: Canvas):
    merger, loaders = merger_with(canvas, 3)
    outer = canvas.call("toSubgraph", [merger, *loaders])
    inner = canvas.call("innerId", outer, MERGER)
    a, b, c = (origin for _, origin in canvas.call("loras", inner)[:3])
    expect_loras(canvas, inner, a, b, c, drawn=False)
    canvas.call("disconnect", inner, "lora1")
    expect_loras(canvas, inner, b, c, drawn=False)
    canvas.call("connect", f"{outer}:{a}", inner, "lora3")
    expect_loras(canvas, inner, b, c, a, drawn=False)
    canvas.call("reload")
    expect_loras(canvas, inner, b, c, a, drawn=False)
    assert linked(canvas, inner) == [f"{outer}:{b}", f"{outer}:{c}", f"{outer}:{a}"]


@pytest.mark.parametrize("mode", [MUTED, BYPASSED], ids=["muted", "bypassed"])
def test_a_muted_or_bypassed_loader_keeps_its_input(canvas: Canvas, mode: int):
    merger, (a, b, c) = merger_with(canvas, 3)
    canvas.call("setMode", b, mode)
    inputs = canvas.prompt()[str(merger)]["inputs"]
    assert [inputs.get(f"lora{n}") for n in (1, 2, 3)] == [[str(a), 0], None, [str(c), 0]]
    canvas.call("reload")
    expect_loras(canvas, merger, a, b, c)


def test_a_bypassed_merger_passes_on_its_first_lora(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    save = canvas.call("add", "PM LoRA Save", 1000, 150)
    canvas.call("connect", merger, save, "lora")
    canvas.call("setMode", merger, BYPASSED)
    assert canvas.prompt()[str(save)]["inputs"]["lora"] == [str(a), 0]
    expect_loras(canvas, merger, a, b)


def test_moved_links_keep_their_reroutes(canvas: Canvas):
    merger, (a, b, c) = merger_with(canvas, 3)
    canvas.call("reroute", merger, "lora3")
    canvas.call("reroute", merger, "lora3")
    assert canvas.call("reroutes", merger, "lora3") == 2
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, b, c)
    assert canvas.call("reroutes", merger, "lora2") == 2
    assert canvas.call("reroutes", merger, "lora1") == 0
    canvas.call("reload")
    expect_loras(canvas, merger, b, c)
    assert canvas.call("reroutes", merger, "lora2") == 2


def test_links_from_a_reroute_node_are_moved_too(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    reroute = canvas.call("add", "Reroute", 450, 600)
    canvas.call("connect", a, reroute, "")
    canvas.call("connect", reroute, merger, "lora3")
    expect_loras(canvas, merger, a, b, reroute)
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, b, reroute)
    assert linked(canvas, merger) == [str(b), str(a)]


def test_other_packs_handlers_are_still_called(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    canvas.page.evaluate(
        """id => {
            const node = pm.node(id)
            const before = node.onConnectionsChange
            pm.calls = 0
            node.onConnectionsChange = function (...args) { pm.calls += 1; return before?.apply(this, args) }
        }""",
        merger,
    )
    canvas.call("disconnect", merger, "lora1")
    expect_loras(canvas, merger, b)
    assert canvas.page.evaluate("pm.calls") > 0
