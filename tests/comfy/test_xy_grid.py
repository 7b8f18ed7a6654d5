"""PM XY Grid in a real ComfyUI over HTTP: its cells equal the pictures of ComfyUI's own nodes."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_pack.tests.comfy.events import Events
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tests.comfy.xy_prompts import (
    SIZE,
    cells,
    difference,
    grid,
    merged,
    merged_picture,
    modes,
    own_picture,
    ranks,
    sampling,
    strengths,
)
from lora_pack.tools.comfy_server import PACK_FOLDER, Interrupted, NodeError, PromptRejected, Server
from lora_pack.tools.make_lora import write_lora
from lora_pack.tools.make_sd3_checkpoint import sd3_modules
from lora_pack.tools.workflows import Node, checkpoint, lora_chain, node, picture
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# id -> display name, required inputs, optional inputs, outputs
NODES: dict[str, tuple[str, list[str], list[str], list[str]]] = {
    "XY: PM LoRA Strengths": (
        "XY: LoRA Power-Merge Strengths",
        ["lora_a", "lora_b", "mode", "density", "device", "dtype"]
        + ["min_strength", "max_strength", "apply_strength", "steps"],
        ["lora_a_override", "lora_b_override", "seed", "values", "strength_rule"],
        ["XY", "XY"],
    ),
    "XY: PM LoRA Modes": (
        "XY: LoRA Power-Merge Modes",
        ["lora_a", "lora_b", "modes", "min_density", "max_density", "density_steps", "device", "dtype"],
        ["lora_a_override", "lora_b_override", "options", "seed", "values", "strength_rule", "weights"],
        ["XY", "XY"],
    ),
    "XY: PM LoRA SVD Rank": (
        "XY: LoRA Power-Merge SVD Rank",
        ["lora_a", "lora_b", "mode", "density", "min_rank", "max_rank", "rank_steps", "device", "dtype"],
        ["lora_a_override", "lora_b_override", "options", "seed", "values", "strength_rule", "weights"],
        ["XY"],
    ),
    "XY: PM LoRA Sweep": (
        "XY: LoRA Power-Merge Sweep",
        ["mode", "density", "svd_rank", "svd_conv_rank", "device", "dtype"],
        ["lora_stack", "options", "lora1", "seed", "strength_rule", "weights"]
        + ["x_parameter", "x_values", "y_parameter", "y_values"],
        ["XY", "XY"],
    ),
    "XY: PM LoRA Files": (
        "XY: LoRA Power-Merge Files",
        ["files", "folder", "order", "limit", "strength_model", "strength_clip"],
        ["base"],
        ["XY"],
    ),
    "XY: PM Sampling": ("XY: Sampling Values", ["axis", "values"], [], ["XY"]),
    "PM XY Grid": (
        "PM XY Grid",
        ["model", "vae", "latent_image", "positive", "negative"]
        + ["seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"],
        ["clip", "X", "Y", "positive_cond", "negative_cond", "clip_vision", "references", "pick", "max_cells"],
        ["IMAGE", "IMAGE", "LoRA", "STRING"],
    ),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "XY: PM LoRA Strengths": {"mode": "concat", "density": 0.6, "min_strength": 0.0, "max_strength": 1.0, "steps": 4},
    "XY: PM LoRA Modes": {
        "modes": "add, ties, dare_linear, dare_ties, magnitude_prune",
        "min_density": 0.2,
        "max_density": 1.0,
        "density_steps": 4,
    },
    "XY: PM LoRA SVD Rank": {"mode": "add_svd", "density": 0.6, "min_rank": 1, "max_rank": 64, "rank_steps": 4},
    "XY: PM LoRA Sweep": {
        "mode": "concat",
        "density": 0.6,
        "svd_rank": 32,
        "svd_conv_rank": 0,
        "x_parameter": "strength 1",
        "x_values": "0, 0.5, 1",
        "y_parameter": "none",
        "y_values": "",
    },
    "XY: PM LoRA Files": {"files": "", "folder": "/", "order": "name", "limit": 0, "strength_model": 1.0},
}


@pytest.mark.parametrize("name", NODES)
def test_node_names_inputs_defaults_and_outputs_never_change(server: Server, name: str):
    display, required, optional, outputs = NODES[name]
    info = server.object_info(name)
    assert info["display_name"] == display
    assert info["input_order"].get("required", []) == required
    assert info["input_order"].get("optional", []) == optional
    assert info["output"] == outputs
    specs = info["input"].get("required", {}) | info["input"].get("optional", {})
    assert all(spec[1].get("tooltip") for spec in specs.values())
    assert len(info["output_tooltips"]) == len(outputs) and info["description"]
    for input_name, value in DEFAULTS.get(name, {}).items():
        assert specs[input_name][1]["default"] == value
    if "seed" in optional:
        assert specs["seed"][1]["default"] == 0 and specs["seed"][1]["control_after_generate"] is False


def test_cells_of_strengths_match_comfyuis_own_loader(server: Server, events: Events):
    prompt = {**checkpoint(), "xy": strengths(), **grid(X=["xy", 0], Y=["xy", 1], steps=3)}
    outputs = server.wait(events.queue(prompt))["outputs"]
    found = cells(server, outputs, 2)
    a, b = ("a.safetensors", 1.0, 1.0), ("b.safetensors", 1.0, 1.0)
    for place, loras in {(0, 0): [], (1, 0): [a], (0, 1): [b], (1, 1): [a, b]}.items():
        expected = own_picture(server, loras, steps=3)
        # ComfyUI's loader rounds after each LoRA; without LoRAs the cell is identical
        assert difference(found[place], expected) <= (1 if loras else 0), place
        assert all(np.abs(found[place] - other).mean() > 0.5 for at, other in found.items() if at != place)

    (shown,) = server.images(outputs, "grid")
    whole = pixels(shown)
    gap = 2
    top, left = whole.shape[0] - 2 * SIZE - gap, whole.shape[1] - 2 * SIZE - gap
    assert shown.parent.name == "temp" and 10 < top < SIZE and 10 < left < SIZE
    for (column, row), cell in found.items():
        y, x = top + row * (SIZE + gap), left + column * (SIZE + gap)
        assert difference(whole[y : y + SIZE, x : x + SIZE], cell) == 0

    steps = [data for data in events.data("progress") if data["node"] == "grid"]
    assert {data["max"] for data in steps} == {4 * 3}
    values = [data["value"] for data in steps]
    assert values == sorted(values) and values[0] == 0 and values[-1] == 12 and len(set(values)) > 4


def test_cells_of_modes_densities_and_ranks_match_the_merge_nodes(server: Server):
    prompt = {**checkpoint(), "xy": modes(seed=5), "ranks": ranks(mode="ties_svd", density=0.5)}
    outputs = server.run({**prompt, **grid(X=["xy", 0], Y=["xy", 1])})
    found = cells(server, outputs, 2)
    assert difference(found[0, 0], found[0, 1]) == 0  # add ignores density
    assert difference(found[1, 1], merged_picture(server, "dare_ties", density=0.8, seed=5)) == 0
    outputs = server.run({**prompt, **grid(X=["ranks", 0])})
    expected = merged_picture(server, "ties_svd", density=0.5, svd_rank=8, svd_conv_rank=8)
    assert difference(cells(server, outputs, 2)[1, 0], expected) == 0


def test_axes_of_seeds_and_prompts_next_to_cached_capsules(server: Server):
    nodes = {**checkpoint(), "xy": strengths(min_strength=0.5), "seeds": sampling("seed +", "0, 1")}
    before = cells(server, server.run({**nodes, **grid(X=["xy", 0], Y=["xy", 1])}), 2)
    found = cells(server, server.run({**nodes, **grid(X=["seeds", 0], Y=["xy", 1])}), 2)
    loras = [("a.safetensors", 1.0, 1.0), ("b.safetensors", 1.0, 1.0)]
    assert difference(found[1, 1], own_picture(server, loras, seed=1)) <= 1
    assert difference(found[0, 1], before[1, 1]) == 0

    nodes["words"] = sampling("positive prompt", "lighthouse, cat")
    found = cells(server, server.run({**nodes, **grid(X=["xy", 0], Y=["words", 0])}), 2)
    assert difference(found[1, 0], before[1, 1]) == 0
    text = grid(positive="a cat at dawn", X=["xy", 0])
    assert difference(found[1, 1], cells(server, server.run({**nodes, **text}), 2)[1, 0]) == 0


def test_only_the_first_of_a_batch_of_latents_is_sampled(server: Server):
    nodes = {**checkpoint(), "steps": sampling("steps", "1, 2"), **grid(X=["steps", 0])}
    nodes["latent"] = node("EmptyLatentImage", width=SIZE, height=SIZE, batch_size=3)
    found = cells(server, server.run(nodes), 2)
    assert len(found) == 2
    for column in (0, 1):
        assert difference(found[column, 0], own_picture(server, [], steps=column + 1)) == 0


@pytest.fixture
def sd3(server: Server, comfyui_folder: Path, comfyui_python: Path) -> Iterator[dict[str, Node]]:
    """A small SD 3 transformer, and LoRAs sd3_a and sd3_b for it."""
    files = [server.base / "models" / kind / "small_sd3.safetensors" for kind in ("diffusion_models", "vae")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
    subprocess.run([comfyui_python, ROOT / "tools" / "make_sd3_checkpoint.py", comfyui_folder, *files], check=True)
    for seed, name in enumerate(("sd3_a", "sd3_b")):
        write_lora(server.loras / f"{name}.safetensors", rank=4, seed=seed, modules=sd3_modules())
    yield {
        **checkpoint(),
        "model": node("UNETLoader", unet_name="small_sd3.safetensors", weight_dtype="default"),
        "vae": node("VAELoader", vae_name="small_sd3.safetensors"),
        "xy": strengths(lora_a="sd3_a.safetensors", lora_b="sd3_b.safetensors"),
    }
    for file in files:
        file.unlink()


@pytest.mark.parametrize("conditioning", ["texts", "conditionings, no clip"])
def test_models_of_other_architectures_can_be_plotted(server: Server, sd3: dict[str, Node], conditioning: str):
    texts = {name: text for name, text in picture().items() if text["class_type"] == "CLIPTextEncode"}
    given: dict[str, Any] = {"clip": None, "positive": "not used", "negative": "not used"}
    given |= {f"{name}_cond": [name, 0] for name in texts}
    nodes = {**sd3, **texts, **grid(["model", 0], ["vae", 0], X=["xy", 0], Y=["xy", 1])}
    if conditioning != "texts":
        nodes |= grid(["model", 0], ["vae", 0], X=["xy", 0], Y=["xy", 1], **given)
    nodes["latent"] = node("EmptySD3LatentImage", width=SIZE, height=SIZE, batch_size=1)
    found = cells(server, server.run(nodes), 2)

    loras, model, _ = lora_chain([("sd3_a.safetensors", 1.0, 1.0), ("sd3_b.safetensors", 1.0, 1.0)], ["model", 0])
    for place, source in {(0, 0): ["model", 0], (1, 1): model}.items():
        own = {**sd3, **loras, **picture(source, vae=["vae", 0]), "latent": nodes["latent"]}
        expected = pixels(server.images(server.run(own), "picture")[0])
        assert difference(found[place], expected) <= (1 if place == (1, 1) else 0)
    assert np.abs(found[0, 0] - found[1, 1]).mean() > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": None}, "The positive and negative text can't be encoded because no clip is connected"),
        ({"X": ["words", 0]}, "X replaces 'dog' in the positive prompt, but the prompt doesn't contain it"),
        ({"X": ["words", 0], "positive_cond": ["cond", 0]}, "a conditioning is connected to positive_cond"),
    ],
)
def test_invalid_inputs_are_refused_before_anything_is_sampled(server: Server, settings: dict[str, Any], message: str):
    nodes = {
        **checkpoint(),
        "words": sampling("positive prompt", "dog, cat"),
        "cond": picture()["positive"],
        **grid(**settings),
    }
    with pytest.raises(NodeError, match=message) as caught:
        server.run(nodes)
    assert caught.value.node_id == "grid"


@pytest.mark.parametrize(
    ("axis", "values", "message"),
    [
        ("cfg", "4, much", "value 'much', which is not a number"),
        ("steps", "0", "must be between 1 and 10000"),
        ("sampler", "euler, oiler", "Unknown sampler 'oiler'. Choose from euler,"),
        ("seed +", " , ", "no values"),
    ],
)
def test_invalid_axis_values_are_refused_in_their_node(server: Server, axis: str, values: str, message: str):
    with pytest.raises(NodeError, match=message) as caught:
        server.run({**checkpoint(), "values": sampling(axis, values), **grid(X=["values", 0])})
    assert caught.value.node_id == "values"


def test_invalid_merges_are_refused_in_their_xy_node(server: Server):
    (server.loras / "xy_torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    for xy, message in (
        (strengths(lora_b="xy_torn.safetensors"), "xy_torn"),
        (modes(modes="add, tie"), "Unknown mode: tie"),
        (ranks(min_rank=9), r"min_rank \(9\) is above max_rank \(8\)"),
    ):
        with pytest.raises(NodeError, match=message) as caught:
            server.run({**checkpoint(), "xy": xy, **grid(X=["xy", 0])})
        assert caught.value.node_id == "xy"


def test_mode_names_of_older_workflows_are_accepted(server: Server):
    nodes = {**checkpoint(), **grid(X=["xy", 0])}
    with pytest.raises(PromptRejected, match="no SVD merge mode 'concat'"):
        server.queue({**nodes, "xy": ranks(mode="concat")})
    server.run({**nodes, "xy": ranks(mode="add", rank_steps=1)})


@pytest.mark.parametrize("steps", [10_000, 1], ids=["inside a cell", "between cells"])
def test_stop_interrupts_the_grid_and_restores_the_progress_bar(server: Server, events: Events, steps: int):
    xy = strengths(steps=40, max_strength=0.5)
    nodes = grid(X=["xy", 0], Y=["xy", 1], steps=steps, max_cells=1600)
    prompt_id = events.queue({**checkpoint(), "xy": xy, **nodes})
    events.wait_for("progress", lambda data: data["node"] == "grid" and data["value"] >= 2)
    server.interrupt()
    with pytest.raises(Interrupted):
        server.wait(prompt_id, deadline=30)
    events.wait_for("execution_interrupted", lambda data: data["node_id"] == "grid")
    # ComfyUI's own progress bars work as before
    own = events.queue({**checkpoint(), **picture(seed=77)})
    server.wait(own)
    assert {data["max"] for data in events.data("progress") if data["prompt_id"] == own} == {2}


@pytest.mark.parametrize("page", ["XY: PM LoRA Strengths.md", "XY: PM LoRA SVD Rank.md", "PM XY Grid.md"])
def test_help_pages_are_served_under_the_nodes_ids(server: Server, page: str):
    folder = f"{server.url}/extensions/{PACK_FOLDER}/docs/"
    with urllib.request.urlopen(folder + urllib.parse.quote(page, safe=":")) as answer:
        text = answer.read().decode()
        assert "html" not in answer.headers["Content-Type"]
    assert text == (ROOT / "web" / "docs" / page.replace(":", "")).read_text("utf-8")
    for missing in ("XY: PM LoRA Strengths/de.md", "XY: none.md", "x:/../../../__init__.md", "x:%2F..%2F..%2Fa.md"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(folder + urllib.parse.quote(missing, safe=":/%"))


def saved(server: Server, nodes: dict[str, Node], lora: list[Any], name: str) -> bytes:
    saver = node("PM LoRA Save", lora=lora, file_name=name, extension="safetensors", overwrite=True)
    server.run({**nodes, "save": saver})
    return (server.loras / f"{name}.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("axes", "pick", "mode", "settings"),
    [
        (strengths(), "2,1", "concat", {"a": 1.0, "b": 0.0}),
        (modes(seed=5), "2,2", "dare_ties", {"density": 0.8, "seed": 5}),
        (ranks(mode="ties_svd", density=0.5), "1,1", "ties_svd", {"density": 0.5, "svd_rank": 1, "svd_conv_rank": 1}),
    ],
    ids=["strengths", "modes", "ranks"],
)
def test_a_picked_lora_equals_that_of_the_mergers_byte_for_byte(
    server: Server, axes: Node, pick: str, mode: str, settings: dict[str, Any]
):
    wires = {"X": ["xy", 0]} if mode == "ties_svd" else {"X": ["xy", 0], "Y": ["xy", 1]}
    nodes = {**checkpoint(), "xy": axes, **grid(**wires, pick=pick)}
    picked = saved(server, nodes, ["grid", 2], "picked")
    assert picked == saved(server, {**checkpoint(), **merged(mode, **settings)[0]}, ["merge", 0], "picked")


def test_picking_and_longer_axes_sample_only_what_is_new(server: Server, events: Events):
    def run(**settings: Any) -> tuple[dict[tuple[int, int], np.ndarray], int]:
        """The cells, and for how many a sampler ran."""
        xy = {"values": "0, 1"} | {name: settings.pop(name) for name in ("values",) if name in settings}
        before = len(server.log())
        prompt = {**checkpoint(), "xy": strengths(**xy), **grid(X=["xy", 0], Y=["xy", 1], seed=77, **settings)}
        outputs = server.wait(events.queue(prompt))["outputs"]
        log = server.log()[before:]
        kept = re.findall(r"PM XY Grid: (\d+) cells x 2 steps(?:, (\d+) kept)?", log)
        (counts,) = kept
        columns = len(xy["values"].split(","))
        return cells(server, outputs, columns), int(counts[0]) - int(counts[1] or 0)

    first, sampled = run()
    assert sampled == 4
    assert run(pick="1,2")[1] == 0
    longer, sampled = run(values="0, 0.5, 1")
    assert sampled == 5
    assert difference(longer[2, 2], first[1, 1]) == difference(longer[0, 2], first[0, 1]) == 0
    assert run(cfg=5.0)[1] == 4


def test_the_grid_so_far_is_sent_instead_of_latent_previews(server: Server, events: Events):
    own = {**checkpoint(), **picture(seed=78)}
    server.wait(events.queue(own))
    assert events.previews > 0, "live previews are off: the test would pass whatever the grid does"
    before = events.previews
    prompt = {**checkpoint(), "xy": strengths(), **grid(X=["xy", 0], Y=["xy", 1], seed=78, steps=4)}
    outputs = server.wait(events.queue(prompt))["outputs"]
    assert events.previews == before
    sent = events.data("pm-xy-grid")
    assert {one["node"] for one in sent} == {"grid"}
    assert sent[0]["now"] == "1,1" and sent[0]["done"] == [] and sent[0]["seconds_left"] is None
    counts = [len(one["done"]) for one in sent]
    assert counts == sorted(counts) and counts[-1] == 4
    assert [one["now"] for one in sent if one["now"]][-1] == "2,2"
    timed = [one["seconds_left"] for one in sent if 0 < len(one["done"]) < 4]
    assert timed and all(seconds > 0 for seconds in timed)
    with_picture = [one for one in sent if "picture" in one]
    assert with_picture and with_picture[0]["done"] == ["1,1"]
    (state,) = outputs["grid"]["xy_grid"]
    assert state["done"] == ["1,1", "1,2", "2,1", "2,2"] and state["columns"] == ["a 0.00", "a 1.00"]
    described = state["cells"][1]["merges"][0]
    assert described["mode"] == "concat" and [lora["strength_model"] for lora in described["loras"]] == [1.0, 0.0]


def test_a_stopped_grid_keeps_its_picture_and_its_cells(server: Server, events: Events):
    prompt = {**checkpoint(), "xy": strengths(steps=3), **grid(X=["xy", 0], Y=["xy", 1], seed=79, steps=3)}
    prompt_id = events.queue(prompt)
    events.wait_for("pm-xy-grid", lambda data: len(data["done"]) >= 2)
    server.interrupt()
    with pytest.raises(Interrupted):
        server.wait(prompt_id)
    last = events.wait_for("pm-xy-grid", lambda data: not data["running"] and len(data["done"]) < 9)
    shown = pixels(server.base / "temp" / last["picture"]["filename"])
    boxes = (np.abs(shown - 128).max(-1) <= 6).mean()
    assert boxes > 0.2, "the missing cells aren't grey boxes"
    before = len(server.log())
    server.run(prompt)
    (kept,) = re.findall(r"PM XY Grid: 9 cells x 3 steps, (\d+) kept", server.log()[before:])
    assert int(kept) == len(last["done"])


def test_nothing_runs_behind_picked_until_a_cell_is_picked(server: Server):
    nodes = {**checkpoint(), "xy": strengths(), **grid(X=["xy", 0], Y=["xy", 1])}
    nodes["save"] = node("PM LoRA Save", lora=["grid", 2], file_name="never", extension="safetensors")
    nodes["text"] = node("PreviewAny", source=["grid", 3])
    outputs = server.run(nodes)
    assert "save" not in outputs and not (server.loras / "never.safetensors").exists()
    assert outputs["text"]["text"][0].splitlines()[1] == "2,1: a 1.00 | b 0.00"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pick": "3,1"}, "pick is '3,1', which is no cell of this grid of 2 x 2"),
        ({"max_cells": 3}, "This grid has 4 cells, but max_cells allows 3"),
        ({"X": None, "Y": None, "pick": "1,1"}, "1,1 has no LoRA to pick"),
        ({"Y": ["xy", 0]}, "X and Y are connected to the same output"),
    ],
)
def test_picks_and_sizes_are_refused_before_anything_is_sampled(
    server: Server, events: Events, settings: dict[str, Any], message: str
):
    prompt = {**checkpoint(), "xy": strengths(), **grid(**{"X": ["xy", 0], "Y": ["xy", 1], "seed": 80} | settings)}
    with pytest.raises(NodeError, match=message):
        server.wait(events.queue(prompt))
    assert events.data("pm-xy-grid") == []


def test_the_saved_grid_has_the_settings_of_all_its_cells(server: Server):
    nodes = {**checkpoint(), "xy": strengths(), **grid(X=["xy", 0], Y=["xy", 1], seed=81)}
    nodes["saved"] = node("SaveImage", images=["grid", 0], filename_prefix="whole")
    extra = {"workflow": {"nodes": []}}
    prompt_id = server.post(
        "/prompt", {"prompt": nodes, "client_id": server.client_id, "extra_data": {"extra_pnginfo": extra}}
    )["prompt_id"]
    outputs = server.wait(prompt_id)["outputs"]
    for output in ("grid", "saved"):
        with Image.open(server.images(outputs, output)[0]) as image:
            found = json.loads(image.info["xy_grid"])["grid"]
        assert [one["cell"] for one in found] == ["1,1", "2,1", "1,2", "2,2"]
        assert [lora["file"] for lora in found[3]["merges"][0]["loras"]] == ["a.safetensors", "b.safetensors"]
        assert found[0]["sampling"]["seed"] == 81
