"""What a user reads first: the search, colours of links, labels of sockets, the list of modes."""

from __future__ import annotations

import pytest
from lora_pack.tests.browser.canvas import NODES2, Canvas


def test_power_merge_finds_the_merger_first(canvas: Canvas):
    page = canvas.page
    page.evaluate("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    canvas.until("document.activeElement.matches('input[role=combobox]')")
    page.keyboard.type("power merge", delay=20)
    first = page.locator("[role=option]").filter(has_text="LoRA").first
    options = "[...document.querySelectorAll('[role=option]')].map(e => e.innerText.trim())"
    # the list follows the letters one by one
    canvas.until(f"{options}.find(text => text.includes('LoRA'))?.startsWith('PM Merge LoRA')")
    found = first.inner_text()
    page.keyboard.press("Escape")
    assert found.startswith("PM Merge LoRA")
    assert "LoRA Power-Merger" in found  # its category


@pytest.mark.parametrize(
    "source, target, entry",
    [("PM LoRA Loader", "PM LoRA Merger", "lora1"), ("PM LoRA Stack", "PM LoRA Merger", "lora_stack")],
)
def test_links_have_their_types_colour(canvas: Canvas, source: str, target: str, entry: str):
    a, b = canvas.call("add", source, 100, 150), canvas.call("add", target, 600, 150)
    canvas.call("connect", a, b, entry)
    kind = canvas.page.evaluate("id => pm.node(id).outputs[0].type", a)
    colour = canvas.page.evaluate("kind => LGraphCanvas.link_type_colors[kind]", kind)
    grey = canvas.page.evaluate("[app.canvas.default_link_color, '', undefined]")
    assert colour not in grey
    assert canvas.page.evaluate("kind => app.canvas.default_connection_color_byType[kind]", kind) == colour
    if canvas.kind == NODES2:
        variable = f"--color-datatype-{kind.upper()}"
        found = canvas.page.evaluate("name => getComputedStyle(document.body).getPropertyValue(name)", variable)
        assert found.strip() == colour


def test_the_model_of_a_merge_says_that_most_loras_need_none(canvas: Canvas):
    merger = canvas.call("add", "PM LoRA Merger", 100, 150)
    labels = canvas.page.evaluate(
        "id => pm.node(id).inputs.map(i => [i.name, i.label ?? i.localized_name ?? i.name])", merger
    )
    labels = dict(labels)
    assert labels["model"] == "model (only for DoRA and unknown families)"
    assert labels["clip"] == "clip (only for DoRA and unknown families)"
    assert labels["lora1"] == "lora1"


def test_modes_are_picked_from_a_list(canvas: Canvas):
    node = canvas.call("add", "XY: PM LoRA Modes", 100, 150)
    pick = "add or remove a mode"
    canvas.call("choose", node, "modes", "concat")
    for mode in ("ties_svd", "concat", "ties"):
        canvas.call("choose", node, pick, mode)
    assert canvas.call("widgets", node)["modes"] == "ties_svd, ties"
    (inputs,) = (entry["inputs"] for entry in canvas.prompt().values())
    assert pick not in inputs
    saved = canvas.call("serialize")["nodes"][0]["widgets_values"]
    canvas.call("reload")
    assert canvas.call("widgets", node)["modes"] == "ties_svd, ties" and pick not in saved


def test_a_new_grid_keeps_its_seed_and_a_saved_one_its_setting(canvas: Canvas):
    grid = canvas.call("add", "PM XY Grid", 100, 150)
    assert canvas.call("widgets", grid)["control_after_generate"] == "fixed"
    canvas.call("choose", grid, "control_after_generate", "increment")
    canvas.call("reload")
    assert canvas.call("widgets", grid)["control_after_generate"] == "increment"
