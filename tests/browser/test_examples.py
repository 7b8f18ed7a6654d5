"""The example workflows open without missing nodes, run as queued by the page, and have thumbnails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lora_pack.tests.browser.canvas import Canvas
from lora_pack.tools.comfy_server import Prompt, Server
from lora_pack.tools.workflows import CHECKPOINT
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "example_workflows"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
# Nodes of other packs, which aren't installed here: workflows with them can't be tested.
OTHERS = ("(Efficient)", "Efficient Loader", "XY Plot")
SMALL = {"width": 64, "height": 64, "steps": 2, "batch_size": 1}


def load(name: str) -> dict[str, Any]:
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))
    if any(other in node["type"] for node in workflow["nodes"] for other in OTHERS):
        pytest.skip("needs another pack")
    return workflow


def give_files(server: Server, prompt: Prompt) -> None:
    """Create the files that the example expects, from the generated LoRAs and the small checkpoint."""
    for node in prompt.values():
        rows = [("lora", row["lora"]) for row in json.loads(node["inputs"].get("rows", "[]"))]
        for name, value in [*node["inputs"].items(), *rows]:
            if name == "ckpt_name":
                give(server.checkpoints / CHECKPOINT, server.checkpoints / value)
            elif name.startswith("lora") and str(value).endswith(".safetensors"):
                source = "b.safetensors" if "b" in Path(value).stem else "a.safetensors"
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
def test_example_has_a_thumbnail(name: str):
    with Image.open(EXAMPLES / f"{name}.jpg") as thumbnail:
        assert thumbnail.width >= 480


def test_comfyui_offers_all_examples(server: Server):
    offered = server.get("/workflow_templates")
    assert set(NAMES) <= {name for names in offered.values() for name in names}
