"""The example workflows open without missing nodes, run as queued by the page, and have thumbnails."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tests.browser.canvas import Canvas
from lora_pack.tests.browser.layout import show_all
from lora_pack.tools.comfy_server import Prompt, Server
from lora_pack.tools.workflows import CHECKPOINT
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "example_workflows"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
# Nodes of other packs, which aren't installed here: workflows with them can't be tested.
OTHERS = ("(Efficient)", "Efficient Loader", "XY Plot")
# With a cell picked, as a user would: nothing runs behind it otherwise.
SMALL = {"width": 64, "height": 64, "steps": 2, "batch_size": 1, "pick": "2,1", "budget": 6, "pictures": 1}


@pytest.fixture(scope="module", autouse=True)
def cleared_away(pages: dict[str, Canvas], server: Server) -> Iterator[None]:
    """Removes the examples' files, and the pages whose lists have them: the first file is what a new loader has."""
    before = {*server.loras.iterdir(), *server.checkpoints.iterdir()}
    yield
    for file in {*server.loras.iterdir(), *server.checkpoints.iterdir()} - before:
        if file.is_file():
            file.unlink()
    for canvas in pages.values():
        canvas.page.context.close()
    pages.clear()


def load(name: str) -> dict[str, Any]:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))
    if any(other in node["type"] for node in workflow["nodes"] for other in OTHERS):
        pytest.skip("needs another pack")
    return workflow


def give_files(server: Server, prompt: Prompt) -> None:
    """Create the files that the example expects, from the generated LoRAs and checkpoint, and a small encoder."""
    for node in prompt.values():
        if node["class_type"] == "CLIPVisionLoader":  # encoders that ComfyUI can load have gigabytes
            node |= {"class_type": "Small Image Encoder", "inputs": {"kind": "pixels"}}
        rows = [("lora", row["lora"]) for row in json.loads(node["inputs"].get("rows", "[]"))]
        rows += [("lora", f"{line}.safetensors") for line in node["inputs"].get("files", "").splitlines()]
        for name, value in [*node["inputs"].items(), *rows]:
            if name == "ckpt_name":
                give(server.checkpoints / CHECKPOINT, server.checkpoints / value)
            elif name.startswith("lora") and str(value).endswith(".safetensors"):
                source = "a.safetensors" if "Pixel" in value else "b.safetensors"
                give(server.loras / source, server.loras / value)


def give(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


@pytest.mark.parametrize("name", NAMES)
def test_example_opens_without_missing_nodes_and_runs(canvas: Canvas, server: Server, name: str):
    workflow = load(name)
    canvas.call("load", workflow)
    assert canvas.call("missing") == []
    prompt = canvas.prompt()
    give_files(server, prompt)
    for node in prompt.values():
        node["inputs"] |= {name: value for name, value in SMALL.items() if name in node["inputs"]}
    outputs = server.run(prompt)
    ends = [id for id, node in prompt.items() if server.object_info(node["class_type"])["output_node"]]
    assert ends and set(ends) <= set(outputs)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_opens_whole(canvas: Canvas, name: str):
    """No node covers another, and notes show all of their text.

    Nodes of other packs too: what isn't installed is drawn as large as it was saved.
    """
    canvas.call("load", json.loads((EXAMPLES / f"{name}.json").read_text("utf-8")))
    show_all(canvas)
    boxes = canvas.call("boxes")
    assert min(min(box[4:]) for box in boxes) > 0, "a node isn't drawn"
    overlaps = [
        f"{a[1]} and {b[1]}: {[round(n) for n in overlap]}"
        for a, b in itertools.combinations(boxes, 2)
        if min(overlap := overlap_of(a[2:], b[2:])) > 0
    ]
    assert overlaps == []
    (note,) = canvas.call("ids", "MarkdownNote")
    hidden = canvas.page.evaluate(
        "id => [...document.querySelectorAll(`.comfy-markdown, .comfy-markdown *, [data-node-id='${id}'] *`)]"
        ".filter(e => e.clientHeight && ['auto', 'scroll'].includes(getComputedStyle(e).overflowY))"
        ".map(e => [e.className, e.scrollHeight - e.clientHeight])",
        note,
    )
    assert [each for each in hidden if each[1] > 2] == []


@pytest.mark.parametrize("name", NAMES)
def test_examples_keep_their_seed(name: str):
    nodes = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))["nodes"]
    assert not {"randomize", "increment", "decrement"} & {str(v) for n in nodes for v in n.get("widgets_values") or ()}


@pytest.mark.parametrize("name", NAMES)
def test_examples_say_where_their_files_are(name: str):
    """ComfyUI then offers the download; the front end insists on https and on a name that the widget has."""
    nodes = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))["nodes"]
    for node in nodes:
        files = {v for v in node.get("widgets_values") or () if str(v).endswith(".safetensors")}
        models = {model["name"]: model for model in node["properties"].get("models", [])}
        assert set(models) == files, node["type"]
        for file, model in models.items():
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{file}")
            assert model["directory"] in ("loras", "checkpoints", "clip_vision")


def overlap_of(a: list[float], b: list[float]) -> tuple[float, float]:
    """By how much two boxes (x, y, width, height) overlap in x and in y; negative: the distance between them."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    return min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)


@pytest.mark.parametrize("name", NAMES)
def test_example_has_a_thumbnail(name: str):
    with Image.open(EXAMPLES / f"{name}.jpg") as thumbnail:
        assert thumbnail.width >= 480


def test_comfyui_offers_all_examples(server: Server):
    offered = server.get("/workflow_templates")
    assert set(NAMES) <= {name for names in offered.values() for name in names}
