"""PM Merge Options: only the widgets of the chosen mode are visible, and the values of the others are kept."""

from __future__ import annotations

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, NODES2, SCREENSHOTS, Canvas
from lora_pack.tests.browser.test_growing_inputs import merger_with
from lora_pack.tests.browser.test_widgets import SVD_MERGER, greyed

OPTIONS = "PM LoRA Merge Options"
PARAMETERS = ["np_mu", "iso_blend", "route_ridge", "della_epsilon", "breadcrumbs_gamma"]
# What a user sees: on the classic canvas the widgets that are drawn on the node, in Nodes 2.0 the labels on the page.
VISIBLE = {
    "classic": """pm.node(id).widgets
        .filter(w => !w.name.startsWith('$$'))
        .filter(w => pm.node(id).isWidgetVisible(w) && w.y + 20 <= pm.node(id).size[1]).map(w => w.name)""",
    "nodes2": """[...document.querySelectorAll(`[data-node-id="${id}"] .lg-node-widget`)]
        .filter(e => e.getBoundingClientRect().height > 0)
        .map(e => pm.node(id).widgets.find(w => e.textContent.includes(w.name))?.name).filter(Boolean)""",
}


def follows(canvas: Canvas, node: object) -> bool:
    """Whether the page can hide a widget later: Nodes 2.0 of older pages shows all of them."""
    return canvas.kind == CLASSIC or canvas.page.evaluate("id => Boolean(pm.node(id).widgets[0]._state)", node)


def until_visible(canvas: Canvas, node: object, *names: str) -> None:
    wanted = names if follows(canvas, node) else PARAMETERS
    canvas.until_equal(VISIBLE[canvas.kind], node, ["mode", *wanted])


def height(canvas: Canvas, node: int) -> float:
    canvas.call("frame")
    canvas.call("frame")
    return next(box[5] for box in canvas.call("boxes") if box[0] == node)


def sent(canvas: Canvas, node: object) -> dict[str, object]:
    return canvas.prompt()[str(node)]["inputs"]


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("np_svd", ["np_mu"]),
        ("iso_svd", ["iso_blend"]),
        ("route_svd", ["route_ridge"]),
        ("della_svd", ["della_epsilon"]),
        ("breadcrumbs_svd", ["breadcrumbs_gamma"]),
        ("karcher_svd", []),
    ],
)
def test_only_the_parameters_of_the_mode_are_visible(canvas: Canvas, mode: str, names: list[str]):
    options = canvas.call("add", OPTIONS, 600, 150)
    until_visible(canvas, options, "np_mu")
    canvas.call("choose", options, "mode", mode)
    until_visible(canvas, options, *names)
    canvas.screenshot(SCREENSHOTS / f"merge-options-{mode}-{canvas.kind}.png")
    canvas.call("reload")
    until_visible(canvas, options, *names)
    assert list(sent(canvas, options)) == ["mode", *PARAMETERS]


def test_the_node_is_as_tall_as_its_visible_widgets(canvas: Canvas):
    for _ in range(4):  # an id that no node with a picture had before: the page would show it again
        canvas.call("add", "PM LoRA Strength", 200, 150)
    options = canvas.call("add", OPTIONS, 600, 150)
    until_visible(canvas, options, "np_mu")
    with_one = height(canvas, options)
    canvas.call("choose", options, "mode", "karcher_svd")
    until_visible(canvas, options)
    with_none = height(canvas, options)
    canvas.call("choose", options, "mode", "iso_svd")
    until_visible(canvas, options, "iso_blend")
    again = height(canvas, options)
    if not follows(canvas, options):
        pytest.skip("Nodes 2.0 of this page shows all widgets.")
    assert with_none + 10 < with_one
    assert abs(again - with_one) < 2
    assert with_one < 160  # five more widgets would need another hundred


def test_values_of_hidden_widgets_are_kept_and_sent(canvas: Canvas):
    options = canvas.call("add", OPTIONS, 600, 150)
    canvas.call("choose", options, "np_mu", 1.5)
    canvas.call("choose", options, "mode", "iso_svd")
    canvas.call("choose", options, "iso_blend", 0.75)
    wanted = sent(canvas, options)
    assert (wanted["mode"], wanted["np_mu"], wanted["iso_blend"]) == ("iso_svd", 1.5, 0.75)
    (saved,) = canvas.call("serialize")["nodes"]
    assert saved["widgets_values"][:3] == ["iso_svd", 1.5, 0.75] and len(saved["widgets_values"]) == 6
    canvas.call("reload")
    assert sent(canvas, options) == wanted
    (copy,) = canvas.call("paste", [options])
    until_visible(canvas, copy, "iso_blend")
    assert sent(canvas, copy) == wanted


def test_undo_brings_back_the_mode_and_its_widgets(canvas: Canvas):
    options = canvas.call("add", OPTIONS, 600, 150)
    canvas.call("changed")
    canvas.call("choose", options, "mode", "iso_svd")
    until_visible(canvas, options, "iso_blend")
    canvas.call("changed")
    canvas.call("undo")
    until_visible(canvas, options, "np_mu")
    assert sent(canvas, options)["mode"] == "np_svd"
    canvas.call("redo")
    until_visible(canvas, options, "iso_blend")


@pytest.mark.parametrize(
    ("mode", "unused"),
    [
        ("karcher_svd", ["density", "seed"]),
        ("iso_svd", ["density", "seed"]),
        ("core_ties_svd", ["seed"]),
        ("sce_svd", ["seed"]),
        ("core_dare_ties_svd", []),
        ("della_svd", []),
    ],
)
def test_density_and_seed_are_greyed_out_by_newer_modes_too(canvas: Canvas, mode: str, unused: list[str]):
    merger = canvas.call("add", SVD_MERGER, 600, 150)
    canvas.call("choose", merger, "mode", mode)
    assert greyed(canvas, merger) == unused


def test_options_stay_connected_to_a_merger_whose_inputs_grow(canvas: Canvas):
    merger, _ = merger_with(canvas, 2, SVD_MERGER)
    options = canvas.call("add", OPTIONS, 150, 650)
    canvas.call("connect", options, merger, "options")
    canvas.call("choose", merger, "mode", "np_svd")
    canvas.call("choose", merger, "strength_rule", "of the sum")
    canvas.call("choose", merger, "weights", "equal energy")
    wanted = sent(canvas, merger)
    assert wanted["options"] == [str(options), 0] and {"lora1", "lora2"} <= set(wanted)
    canvas.call("reload")
    assert sent(canvas, merger) == wanted
    if canvas.kind == NODES2:
        canvas.call("frame")
    canvas.screenshot(SCREENSHOTS / f"merge-options-connected-{canvas.kind}.png")


def test_a_merger_saved_by_1_0_0_opens_with_the_rules_at_their_defaults(canvas: Canvas):
    merger, _ = merger_with(canvas, 2, SVD_MERGER)
    workflow = canvas.call("serialize")
    for node in workflow["nodes"]:
        if str(node["id"]) == str(merger):
            node["widgets_values"] = ["ties_svd", 0.4, 16, 8, "cpu", "float16", 7]
            left_out = [slot for slot, each in enumerate(node["inputs"]) if each["name"] == "options"]
            newer = ("options", "strength_rule", "weights")
            node["inputs"] = [each for each in node["inputs"] if each["name"] not in newer]
    for link in workflow["links"]:
        if str(link[3]) == str(merger):
            link[4] -= sum(slot < link[4] for slot in left_out)
    canvas.call("load", workflow)
    found = sent(canvas, merger)
    assert [found[name] for name in ("mode", "density", "svd_rank", "svd_conv_rank", "device", "dtype", "seed")] == [
        *("ties_svd", 0.4, 16, 8, "cpu", "float16", 7)
    ]
    assert (found["strength_rule"], found["weights"]) == ("of the mode", "as given")
    assert {"lora1", "lora2"} <= set(found) and "options" not in found and "lora3" not in found
    assert [each for each, _ in canvas.call("loras", merger)] == ["lora1", "lora2", "lora3"]
