"""Workflows saved with the older Power-Merger packs open with their links and values, adapted where this pack differs.

silveroxides.json and 2024_in_a_later_front_end.json were saved with those packs on ComfyUI 0.3.75; 2024.json is the
former in the format of the 2024 front end, where widgets weren't inputs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lora_pack.tests.browser.canvas import Canvas
from lora_pack.tests.browser.test_growing_inputs import expect_loras

WORKFLOWS = Path(__file__).with_name("workflows")
LOADERS = ("1", "2", "3")
MERGER, SVD_MERGER, RESIZER, SAVE, APPLY, MODES, RANKS, STRENGTHS = 4, 5, 6, 7, 9, 10, 11, 12
# What the pack's newer widgets start with, on nodes that were saved without them.
RULES = {"strength_rule": "of the mode", "weights": "as given"}
MERGER_SETTINGS = {"mode": "ties", "density": 0.6, "device": "cpu", "dtype": "bfloat16", "seed": 0} | RULES
MODES_NODE = "XY: PM LoRA Modes"
SVD_SETTINGS = {
    "2024": {"mode": "dare_ties_svd"},
    "silveroxides": {"mode": "magnitude_prune_svd"},
}


def load(canvas: Canvas, name: str) -> dict:
    """The prompt of a saved workflow. Asserts that it stays the same after saving and loading with this pack."""
    canvas.call("load", json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8")))
    prompt = canvas.prompt()
    canvas.call("reload")
    assert canvas.prompt() == prompt
    return prompt


def settings(prompt: dict, node: int) -> dict:
    return {name: value for name, value in prompt[str(node)]["inputs"].items() if not isinstance(value, list)}


def links(prompt: dict, node: int) -> dict:
    return {name: value for name, value in prompt[str(node)]["inputs"].items() if isinstance(value, list)}


@pytest.mark.parametrize("edition", SVD_SETTINGS)
def test_mergers_keep_links_and_settings(canvas: Canvas, edition: str):
    prompt = load(canvas, edition)
    for merger in (MERGER, SVD_MERGER):
        expect_loras(canvas, merger, *LOADERS)
        assert links(prompt, merger) == {f"lora{n}": [loader, 0] for n, loader in enumerate(LOADERS, 1)}
    assert settings(prompt, MERGER) == MERGER_SETTINGS
    common = {"density": 0.7, "svd_rank": 24, "svd_conv_rank": 2, "device": "cpu", "dtype": "float16", "seed": 0}
    assert settings(prompt, SVD_MERGER) == common | RULES | SVD_SETTINGS[edition]
    canvas.call("disconnect", SVD_MERGER, "lora1")
    expect_loras(canvas, SVD_MERGER, *LOADERS[1:])


@pytest.mark.parametrize("edition", SVD_SETTINGS)
def test_other_nodes_keep_links_and_settings(canvas: Canvas, edition: str):
    prompt = load(canvas, edition)
    assert prompt["2"]["inputs"] == {
        "lora_name": "b.safetensors",
        "strength_model": 0.75,
        "strength_clip": 1,
        "lbw": "SD-OUT",
        "alpha_from": "trainer",
        "on": True,
    }
    assert links(prompt, RESIZER) == {"lora": [str(SVD_MERGER), 0]}
    resizer = {"new_rank": 12, "device": "cpu", "dtype": "float32"}
    assert settings(prompt, RESIZER) == resizer | {"conv_rank": 0, "method": "fixed", "method_value": 0.9}
    assert links(prompt, SAVE) == {"lora": [str(RESIZER), 0]}
    save = {"file_name": "old_pack", "extension": "safetensors"}
    assert settings(prompt, SAVE) == save | {
        "save_dtype": "as merged",
        "overwrite": False,
        "save_format": "as first input",
    }
    assert links(prompt, APPLY) == {"model": ["8", 0], "clip": ["8", 1], "lora": [str(MERGER), 0]}
    assert settings(prompt, APPLY) == {"strength_model": 1, "strength_clip": 1, "how": "patch weights"}


@pytest.mark.parametrize("edition", SVD_SETTINGS)
def test_xy_nodes_keep_loras_and_settings(canvas: Canvas, edition: str):
    load(canvas, edition)
    canvas.until_equal("pm.origins(id)", MODES, {"lora_a_override": "1", "lora_b_override": "2"})
    canvas.until_equal("pm.origins(id)", RANKS, {"lora_a_override": "1", "lora_b_override": "2"})
    # the files are links in these workflows, so the widgets have the first of the list
    first = canvas.page.evaluate(
        f"LiteGraph.registered_node_types['{MODES_NODE}'].nodeData.input.required.lora_a[0][0]"
    )
    files = {"lora_a": first, "lora_b": first}
    densities = {"min_density": 0.25, "max_density": 0.75, "density_steps": 3}
    assert canvas.call("widgets", MODES) == (
        files
        | {"modes": "add, ties"}
        | densities
        | {"device": "cpu", "dtype": "float16", "seed": 0, "values": ""}
        | RULES
        | {"add or remove a mode": "choose…"}
    )
    ranks = {"min_rank": 2, "max_rank": 40, "rank_steps": 5}
    assert canvas.call("widgets", RANKS) == (
        files
        | {"mode": "ties_svd", "density": 0.5}
        | ranks
        | {"device": "cpu", "dtype": "bfloat16", "seed": 0, "values": ""}
        | RULES
    )
    strengths = {"min_strength": 0.1, "max_strength": 0.8, "apply_strength": "model", "steps": 3}
    assert canvas.call("widgets", STRENGTHS) == (
        {"lora_a": "a.safetensors", "lora_b": "b.safetensors", "mode": "concat", "density": 0.9}
        | {"device": "cpu", "dtype": "float16"}
        | strengths
        | {"seed": 0, "values": "", "strength_rule": "of the mode"}
    )


def test_a_linked_random_n_iter_is_removed_with_its_link(canvas: Canvas):
    workflow = json.loads((WORKFLOWS / "silveroxides.json").read_text("utf-8"))
    merger = next(node for node in workflow["nodes"] if node["id"] == SVD_MERGER)
    slot = next(n for n, entry in enumerate(merger["inputs"]) if entry["name"] == "random_n_iter")
    merger["inputs"][slot]["link"] = 99
    workflow["links"].append([99, 50, 0, SVD_MERGER, slot, "INT"])
    outputs = [{"name": "INT", "type": "INT", "links": [99], "widget": {"name": "random_n_iter"}}]
    primitive = {"id": 50, "type": "PrimitiveNode", "pos": [50, 900], "size": [210, 82], "widgets_values": [6, "fixed"]}
    workflow["nodes"].append(primitive | {"flags": {}, "order": 0, "mode": 0, "properties": {}, "outputs": outputs})
    canvas.call("load", workflow)
    expect_loras(canvas, SVD_MERGER, *LOADERS)
    origins = canvas.page.evaluate("id => pm.origins(id)", SVD_MERGER)
    assert origins == {"lora1": "1", "lora2": "2", "lora3": "3"}
    saved = canvas.call("serialize")
    assert 99 not in [link[0] for link in saved["links"]]
    assert settings(canvas.prompt(), SVD_MERGER)["device"] == "cpu"


def test_widgets_that_the_2024_pack_named_like_loras_are_renamed(canvas: Canvas):
    prompt = load(canvas, "2024_in_a_later_front_end")
    for merger in (MERGER, SVD_MERGER):
        expect_loras(canvas, merger, LOADERS[0])
        assert links(prompt, merger) == {"lora1": ["1", 0]}
    assert settings(prompt, MERGER) == MERGER_SETTINGS
    assert settings(prompt, SVD_MERGER)["mode"] == "dare_ties_svd"
    canvas.call("connect", 2, MERGER, "lora2")
    expect_loras(canvas, MERGER, *LOADERS[:2])
