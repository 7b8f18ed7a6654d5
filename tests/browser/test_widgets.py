"""Greyed-out widgets, block weight presets, and the results that nodes show after a run."""

from __future__ import annotations

import pytest
from lora_pack.tests.browser.canvas import CLASSIC, NODES2, SCREENSHOTS, Canvas
from lora_pack.tests.browser.test_growing_inputs import LOADER, MERGER, merger_with
from lora_pack.tools.comfy_server import PACK_FOLDER

SVD_MERGER = "PM LoRA SVD Merger"


def greyed(canvas: Canvas, node: int) -> list[str]:
    return canvas.page.evaluate("id => pm.node(id).widgets.filter(w => w.disabled).map(w => w.name)", node)


@pytest.mark.parametrize(
    ("kind", "mode", "unused"),
    [
        (MERGER, "concat", ["density", "seed"]),
        (MERGER, "add", ["density", "seed"]),
        (MERGER, "ties", ["seed"]),
        (MERGER, "dare_linear", []),
        (SVD_MERGER, "add_svd", ["density", "seed"]),
        (SVD_MERGER, "magnitude_prune_svd", ["seed"]),
        (SVD_MERGER, "dare_ties_svd", []),
    ],
)
def test_widgets_that_the_mode_ignores_are_greyed_out(canvas: Canvas, kind: str, mode: str, unused: list[str]):
    merger = canvas.call("add", kind, 600, 150)
    assert greyed(canvas, merger) == ["density", "seed"]  # the default modes use neither
    canvas.call("choose", merger, "mode", mode)
    assert greyed(canvas, merger) == unused
    canvas.call("reload")
    assert greyed(canvas, merger) == unused
    assert canvas.prompt()[str(merger)]["inputs"]["density"] == 0.6


def test_method_value_is_greyed_out_for_method_fixed(canvas: Canvas):
    resizer = canvas.call("add", "PM LoRA Resizer", 600, 150)
    assert greyed(canvas, resizer) == ["method_value"]
    canvas.call("choose", resizer, "method", "sv_fro")
    assert greyed(canvas, resizer) == []


def test_a_preset_writes_block_weights_and_is_not_saved(canvas: Canvas):
    loader = canvas.call("add", LOADER, 600, 150)
    before = canvas.prompt()[str(loader)]["inputs"]
    canvas.call("choose", loader, "lbw preset", "SD-OUT")
    canvas.call("choose", loader, "alpha_from", "tensors")
    weights = "SD-OUT:1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"
    assert canvas.prompt()[str(loader)]["inputs"] == before | {"lbw": weights, "alpha_from": "tensors"}
    (saved,) = canvas.call("serialize")["nodes"]
    assert saved["widgets_values"] == ["a.safetensors", 1, 1, weights, "tensors", True]
    canvas.call("reload")
    assert canvas.call("widgets", loader)["lbw"] == weights
    assert canvas.call("widgets", loader)["alpha_from"] == "tensors"
    assert canvas.call("widgets", loader)["lbw preset"] == "choose…"


def test_results_are_shown_and_are_no_part_of_prompt_or_widget_values(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2, SVD_MERGER)
    canvas.call("choose", b, "lora_name", "b.safetensors")
    rank = 4 if canvas.kind == CLASSIC else 5  # ComfyUI doesn't run cached nodes again
    canvas.call("choose", merger, "svd_rank", rank)
    save = canvas.call("add", "PM LoRA Save", 1000, 150)
    canvas.call("choose", save, "file_name", f"shown/{canvas.kind}")
    canvas.call("connect", merger, save, "lora")
    canvas.call("queue")
    canvas.until("/safetensors$/.test(pm.widget(argument, 'result')?.value)", save)
    canvas.until("pm.widget(argument, 'result').value", merger)
    assert f"84 modules, rank {rank}, " in canvas.call("widgets", merger)["result"]
    assert canvas.call("widgets", merger)["result"].endswith("% lost to truncation")
    assert canvas.call("widgets", save)["result"] == f"shown/{canvas.kind}.safetensors"
    if canvas.kind == NODES2:
        canvas.until("pm.drawn(argument).some(text => text.endsWith('lost to truncation'))", merger)
    canvas.screenshot(SCREENSHOTS / f"results-{canvas.kind}.png")
    assert "result" not in canvas.prompt()[str(save)]["inputs"]
    saved = {node["id"]: node["widgets_values"] for node in canvas.call("serialize")["nodes"]}
    names = {str(id): values for id, values in saved.items()}
    assert names[str(save)] == [f"shown/{canvas.kind}", "safetensors", "as merged", False, "as first input"]
    assert names[str(merger)] == ["add_svd", 0.6, rank, 0, "auto", "float32", 0, "of the mode", "as given"]
    canvas.call("reload")
    assert canvas.call("widgets", save)["result"] == f"shown/{canvas.kind}.safetensors"


def test_a_result_of_many_lines_makes_its_box_taller(canvas: Canvas):
    merger = canvas.call("add", MERGER, 600, 150)
    heights = canvas.page.evaluate(
        """async ([id, folder]) => {
            const { heightOf, showText } = await import(`/extensions/${folder}/result_text.js`)
            const node = pm.node(id)
            const before = node.size[1]
            showText(node, ['a note that takes several lines of the box: '.repeat(6)])
            const after = node.size[1]
            showText(node, ['short'])
            const text = ['', 'x '.repeat(200), 'x'.repeat(9999)].map(text => heightOf(text, 270))
            return { before, after, text }
        }""",
        [merger, PACK_FOLDER],
    )
    empty, long, longest = heights["text"]
    assert empty == 48 < long < longest == 220
    # Nodes 2.0 does its own layout, in which long texts scroll
    if canvas.kind == CLASSIC:
        assert heights["after"] >= heights["before"] + 40
