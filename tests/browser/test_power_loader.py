"""PM Power Loader in the page: rows by keyboard, saving, copying, undoing, and what they say about their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_pack.tests.browser.canvas import SCREENSHOTS, Canvas
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.make_lora import small_modules, write_lora

LOADER = "PM LoRA Power Loader"
A, B = "a.safetensors", "b.safetensors"


def row(lora: str, **values: Any) -> dict[str, Any]:
    return {"lora": lora, "on": True, "strength": 1, "strength_clip": None, "lbw": ""} | values


def rows(canvas: Canvas, node: object) -> list[dict[str, Any]]:
    """The rows in the prompt that the page would queue."""
    return json.loads(canvas.prompt()[str(node)]["inputs"]["rows"])


def with_rows(canvas: Canvas, *given: dict[str, Any]) -> int:
    node = canvas.call("add", LOADER, 500, 120)
    canvas.page.evaluate("([id, text]) => { pm.widget(id, 'rows').value = text }", [node, json.dumps(given)])
    canvas.page.locator(".pm-power").first.wait_for()
    canvas.call("frame")
    return node


def shot(canvas: Canvas, name: str) -> None:
    canvas.call("frame")
    canvas.call("frame")
    canvas.screenshot(SCREENSHOTS / f"power-{name}-{canvas.kind}.png")


def test_rows_are_added_and_changed_by_keyboard_alone(canvas: Canvas):
    node = canvas.call("add", LOADER, 500, 120)
    page = canvas.page
    page.get_by_role("button", name="Add LoRA").focus()
    page.keyboard.press("Enter")
    page.get_by_role("option", name="a SD 1.5").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "combobox"
    page.keyboard.type("b")
    page.keyboard.press("Enter")
    page.keyboard.type("a.saf")
    page.keyboard.press("Enter")
    shot(canvas, "search")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "+ Add LoRA"
    assert rows(canvas, node) == [row(B), row(A)]
    page.get_by_role("button", name="Move b down").focus()
    page.keyboard.press("Enter")
    assert rows(canvas, node) == [row(A), row(B)]
    page.get_by_role("switch", name="a", exact=True).focus()
    page.keyboard.press("Space")
    page.get_by_label("Strength of b").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("-0.5")
    page.keyboard.press("Tab")
    assert rows(canvas, node) == [row(A, on=False), row(B, strength=-0.5)]
    page.get_by_role("button", name="Remove a").focus()
    page.keyboard.press("Delete")  # not the node
    page.keyboard.press("Enter")
    assert rows(canvas, node) == [row(B, strength=-0.5)]


def test_settings_on_demand_and_the_facts_of_the_file(canvas: Canvas, server: Server):
    (server.loras / "a.json").write_text('{"activation text": "ink, old paper"}')
    node = with_rows(canvas, row(A), row("gone.safetensors"))
    page = canvas.page
    page.get_by_text("SD 1.5, rank 8").first.wait_for()
    page.get_by_text("not in ComfyUI's loras folders").first.wait_for()
    page.get_by_role("button", name="a: text encoder").click()
    page.get_by_text("Trigger words: ink, old paper").first.wait_for()
    options = page.evaluate("[...document.querySelectorAll('datalist option')].map(o => o.value)")
    assert "SD-OUT" in options and "FLUX-SINGLE" not in options
    page.get_by_label("Text encoder strength").fill("0.5")
    page.get_by_label("Block weights", exact=True).fill("SD-OUT")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="a: text encoder").hover()
    shot(canvas, "panel")
    assert rows(canvas, node)[0] == row(A, strength_clip=0.5, lbw="SD-OUT")
    (server.loras / "a.json").unlink()


def test_a_bad_number_puts_the_last_one_back(canvas: Canvas):
    node = with_rows(canvas, row(A, strength=0.5))
    field = canvas.page.get_by_label("Strength of a")
    field.fill("")
    field.blur()
    assert field.input_value() == "0.5"
    field.fill("99")
    field.blur()
    assert rows(canvas, node) == [row(A, strength=20)]


def test_rows_survive_reload_copy_subgraph_and_undo(canvas: Canvas):
    given = [row(A, strength=0.25), row(B, on=False, lbw="SD-OUT")]
    node = with_rows(canvas, *given)
    saved = canvas.call("serialize")["nodes"][0]["widgets_values"]
    assert json.loads(saved[0]) == given
    canvas.call("reload")
    assert rows(canvas, node) == given
    (copy,) = canvas.call("paste", [node])
    assert rows(canvas, copy) == given
    canvas.call("changed")
    canvas.page.locator("[aria-label='Remove b']").last.click()
    canvas.call("changed")
    assert rows(canvas, copy) == given[:1]
    assert rows(canvas, node) == given
    canvas.call("undo")
    canvas.until("pm.idle() && Object.keys(app.rootGraph?._nodes_by_id ?? app.graph._nodes_by_id).length === 2")
    assert rows(canvas, copy) == given
    outer = canvas.call("toSubgraph", [node])
    inner = next(id for id, made in canvas.prompt().items() if made["class_type"] == LOADER and id != str(copy))
    assert inner.startswith(f"{outer}:")
    assert rows(canvas, inner) == given


def test_rows_for_different_models_are_said_and_filtered(canvas: Canvas, server: Server):
    flux = [(f"lora_unet_double_blocks_{n}_img_attn_qkv", 9216, 3072, False) for n in range(19)]
    (server.loras / "power").mkdir(exist_ok=True)
    write_lora(server.loras / "power/flux.safetensors", rank=1, seed=1, modules=flux)
    node = with_rows(canvas, row(A), row("power/flux.safetensors"))
    page = canvas.page
    page.get_by_text("a is for SD 1.5, flux is for").wait_for()
    shot(canvas, "families")
    page.get_by_role("switch", name="flux").uncheck()
    page.get_by_text("a is for SD 1.5, flux is for").wait_for(state="hidden")
    page.get_by_role("button", name="Add LoRA").click()
    page.get_by_label("Base model").select_option("SD 1.5")
    page.get_by_role("option", name="flux").wait_for(state="hidden")
    page.get_by_role("option", name="b SD 1.5").click()
    assert [one["lora"] for one in rows(canvas, node)] == [A, "power/flux.safetensors", B]


def test_text_that_is_no_list_is_shown_and_kept(canvas: Canvas):
    node = canvas.call("add", LOADER, 500, 120)
    canvas.page.evaluate("id => { pm.widget(id, 'rows').value = '{oops' }", node)
    canvas.page.get_by_text("This text is no list of LoRAs.").wait_for()
    assert canvas.prompt()[str(node)]["inputs"]["rows"] == "{oops"
    canvas.page.get_by_role("button", name="Remove all").click()
    assert rows(canvas, node) == []


def test_many_rows_and_long_names(canvas: Canvas, server: Server):
    long = "my folder with a rather long name/illustrious_watercolour_ink_wash_style_v12_final-000040.safetensors"
    (server.loras / long).parent.mkdir(exist_ok=True)
    write_lora(server.loras / long, rank=2, seed=1, modules=small_modules()[:3])
    node = with_rows(canvas, row(long), *[row(A, strength=n / 10) for n in range(19)])
    canvas.page.get_by_text("SD 1.5, rank 8").first.wait_for()
    shot(canvas, "many")
    boxes = canvas.page.evaluate(
        """() => { const root = document.querySelector('.pm-power').getBoundingClientRect()
        return { width: root.width, inside: [...document.querySelectorAll('.pm-row .pm-line > *')].every(e => {
          const b = e.getBoundingClientRect(); return b.right <= root.right + 1 && b.left >= root.left - 1 }) } }"""
    )
    assert boxes["inside"], boxes
    canvas.page.evaluate("id => pm.node(id).setSize([300, pm.node(id).size[1]])", node)
    shot(canvas, "narrow")


def test_the_queued_rows_run(canvas: Canvas, server: Server):
    node = with_rows(canvas, row(A), row(B, strength=0.5))
    merger = canvas.call("add", "PM LoRA Merger", 1000, 120)
    canvas.call("connect", node, merger, "lora_stack")
    save = canvas.call("add", "PM LoRA Save", 1300, 120, {"file_name": f"power/{canvas.kind}"})
    canvas.call("connect", merger, save, "lora")
    (path,) = server.run(canvas.prompt())[str(save)]["text"][:1]
    assert Path(path).name.startswith(canvas.kind)
