"""Right-click entries: what a LoRA is, its recipe, and the nodes that made it. Also the facts on PM Load LoRA."""

from __future__ import annotations

import json

import pytest
from lora_pack.tests.browser.canvas import NODES2, SCREENSHOTS, Canvas
from lora_pack.tools.comfy_server import Prompt, Server
from lora_pack.tools.workflows import node

SHOW, COPY, MAKE = "Show what this LoRA is", "Copy this LoRA's recipe", "Make this merge's nodes"
SAVED = "menu/merged.safetensors"


@pytest.fixture
def merged(server: Server) -> Prompt:
    """A saved merge of a (with block weights) and a merge of b; returns its prompt."""
    a = node("PM LoRA Loader", lora_name="a.safetensors", strength_model=0.5, strength_clip=0.25, lbw="%default=0.5")
    b = node("PM LoRA Loader", lora_name="b.safetensors", strength_model=1, strength_clip=1, lbw="", on=True)
    svd = {"mode": "ties_svd", "density": 0.5, "svd_rank": 3, "svd_conv_rank": 0, "device": "cpu", "dtype": "float16"}
    prompt = {
        "a": a,
        "b": b,
        "inner": node("PM LoRA SVD Merger", **svd, lora1=["b", 0]),
        "half": node("PM LoRA Strength", lora=["inner", 0], strength_model=0.75, strength_clip=1.0),
        "merge": node(
            "PM LoRA Merger",
            **{"mode": "concat", "density": 1.0, "device": "cpu", "dtype": "float32"},
            lora1=["a", 0],
            lora2=["half", 0],
        ),
        "save": node("PM LoRA Save", lora=["merge", 0], file_name=SAVED[:-12], extension="safetensors", overwrite=True),
    }
    server.run(prompt)
    return prompt


def loader(canvas: Canvas, file: str) -> int:
    id = canvas.call("add", "PM LoRA Loader", 500, 120)
    canvas.call("choose", id, "lora_name", file)
    return id


def click_entry(canvas: Canvas, id: int, text: str) -> None:
    open_menu(canvas, id)
    canvas.page.get_by_text(text, exact=True).first.click()


def open_menu(canvas: Canvas, id: int) -> None:
    """Open a node's menu by the right mouse button on its title."""
    if canvas.kind == NODES2 and canvas.page.evaluate("/^1\\.3/.test(window.__COMFYUI_FRONTEND_VERSION__ ?? '')"):
        pytest.skip("The menu of Nodes 2.0 has no entries of packs in this front end.")
    canvas.call("frame")
    canvas.call("frame")
    canvas.page.mouse.click(*canvas.call("title", id), button="right")


def test_show_what_a_lora_is(canvas: Canvas, merged: Prompt):
    click_entry(canvas, loader(canvas, SAVED), SHOW)
    dialog = canvas.page.locator("dialog.pm-dialog")
    dialog.wait_for()
    text = dialog.inner_text()
    assert "SD 1.5, rank 11" in text and "84 (LoRA)" in text
    assert "merge, concat: a x 0.5 / 0.25" in text
    canvas.screenshot(SCREENSHOTS / f"menu-show-{canvas.kind}.png")
    assert canvas.page.evaluate("document.activeElement.textContent") == "Close"
    canvas.page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_make_the_nodes_of_a_merge(canvas: Canvas, server: Server, merged: Prompt):
    click_entry(canvas, loader(canvas, SAVED), MAKE)
    canvas.until("pm.ids('PM LoRA Save').length === 1 && pm.origins(pm.ids('PM LoRA Save')[0]).lora")
    canvas.until("pm.ids('PM LoRA Merger').length === 1 && pm.origins(pm.ids('PM LoRA Merger')[0]).lora2")
    canvas.call("frame")
    canvas.screenshot(SCREENSHOTS / f"menu-nodes-{canvas.kind}.png")
    prompt = canvas.prompt()
    save = next(id for id, made in prompt.items() if made["class_type"] == "PM LoRA Save")
    assert prompt[save]["inputs"]["file_name"] == "merged_again"
    prompt[save]["inputs"] |= {"file_name": "menu/again", "overwrite": True}
    for made in prompt.values():
        made["inputs"] |= {"device": "cpu"} if "device" in made["inputs"] else {}
    server.run(prompt)
    assert (server.loras / "menu/again.safetensors").read_bytes() == (server.loras / SAVED).read_bytes()


def test_a_file_without_a_recipe_says_so(canvas: Canvas):
    click_entry(canvas, loader(canvas, "a.safetensors"), COPY)
    canvas.page.get_by_text("a has no recipe").wait_for()


def test_rows_have_a_submenu_of_their_files(canvas: Canvas):
    power = canvas.call("add", "PM LoRA Power Loader", 500, 120)
    given = [{"lora": "a.safetensors"}, {"lora": "b.safetensors"}]
    canvas.page.evaluate("([id, text]) => { pm.widget(id, 'rows').value = text }", [power, json.dumps(given)])
    open_menu(canvas, power)
    entry = canvas.page.get_by_text(SHOW, exact=True).first
    if canvas.kind == NODES2:
        entry.hover()
    else:
        entry.click()
    canvas.page.locator(":text-is('b'):not(.pm-power *)").last.click()
    canvas.page.locator("dialog.pm-dialog").wait_for()
    assert "b.safetensors" in canvas.page.locator("dialog.pm-dialog h2").inner_text()
    canvas.page.locator("dialog.pm-dialog").get_by_role("button", name="Close").click()


def test_the_dialog_opens_from_the_nodes_without_a_menu(canvas: Canvas, merged: Prompt):
    """Some menus of Nodes 2.0 have no entries of packs."""
    loader(canvas, SAVED)
    line = canvas.page.get_by_role("button", name="SD 1.5, rank 11")
    line.wait_for()
    line.focus()
    canvas.page.keyboard.press("Enter")
    canvas.page.get_by_role("button", name=MAKE).click()
    canvas.until("pm.ids('PM LoRA Merger').length === 1 && pm.origins(pm.ids('PM LoRA Merger')[0]).lora2")


def test_a_loader_says_what_its_file_is_and_offers_presets_that_fit(canvas: Canvas):
    id = loader(canvas, "a.safetensors")
    canvas.call("choose", id, "lora_name", "b.safetensors")
    canvas.until("pm.widget(argument, 'this LoRA is').value.startsWith('SD 1.5, rank 4, ')", id)
    presets = canvas.page.evaluate("id => pm.widget(id, 'lbw preset').options.values", id)
    assert "SD-OUT" in presets and "FLUX-SINGLE" not in presets
    canvas.call("choose", id, "on", False)
    canvas.until("pm.widget(argument, 'this LoRA is').value.startsWith('off: left out. SD 1.5')", id)
    if canvas.kind == NODES2:
        canvas.until("document.querySelector('[data-node-id] .pm-line-about')?.textContent.startsWith('off: ')")
    canvas.screenshot(SCREENSHOTS / f"loader-{canvas.kind}.png")
    (saved,) = canvas.call("serialize")["nodes"]
    assert saved["widgets_values"] == ["b.safetensors", 1, 1, "", "trainer", False]
    assert "this LoRA is" not in canvas.prompt()[str(id)]["inputs"]
    canvas.call("reload")
    canvas.until("pm.widget(argument, 'this LoRA is').value.startsWith('off: left out. SD 1.5')", id)
