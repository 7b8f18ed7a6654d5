"""PM Inspect LoRA in a real ComfyUI: the picture on the node, the report, stacks, and a model for DoRA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.merge.files import load
from lora_pack.merge.inspecting.figure import figure_of
from lora_pack.merge.inspecting.inspect import inspect
from lora_pack.merge.inspecting.report import as_text
from lora_pack.pictures.inspection import draw_inspection
from lora_pack.tools.comfy_server import NodeError, Server
from lora_pack.tools.workflows import checkpoint, node
from PIL import Image
from safetensors.torch import load_file, save_file


def loader(name: str, model: float = 1.0, clip: float = 1.0) -> dict[str, Any]:
    return node("PM LoRA Loader", lora_name=name, strength_model=model, strength_clip=clip, lbw="")


def run(server: Server, prompt: dict[str, Any], **inputs: Any) -> tuple[Image.Image, str]:
    """The picture that the node shows, and its report."""
    prompt = prompt | {
        "look": node("PM LoRA Inspect", **inputs),
        "text": node("PreviewAny", source=["look", 1]),
        "image": node("PreviewImage", images=["look", 0]),
    }
    outputs = server.run(prompt)
    shown, previewed = (Image.open(server.images(outputs, name)[0]).convert("RGB") for name in ("look", "image"))
    assert np.array_equal(np.asarray(shown), np.asarray(previewed)), "the output isn't the picture on the node"
    return shown, outputs["text"]["text"][0]


def test_the_node_shows_what_the_core_measures(server: Server):
    nodes = {"a": loader("a.safetensors"), "b": loader("b.safetensors", 0.5, -0.25)}
    picture, report = run(server, nodes, lora1=["a", 0], lora2=["b", 0])
    loras = [load(server.loras / "a.safetensors"), load(server.loras / "b.safetensors")]
    inspection = inspect([loras[0], loras[1].with_strengths(0.5, -0.25)])
    assert report == as_text(inspection)
    assert np.array_equal(np.asarray(picture), np.asarray(draw_inspection(figure_of(inspection))))


def test_stacks_come_after_the_connected_loras(server: Server):
    stack = {"__value__": [["b.safetensors", 1.0, 1.0]]}
    _, report = run(server, {"a": loader("a.safetensors")}, lora1=["a", 0], lora_stack=stack)
    assert "A: a\n" in report and "B: b\n" in report


def test_without_a_lora_the_node_says_what_to_connect(server: Server):
    with pytest.raises(NodeError) as caught:
        run(server, {})
    assert "Connect PM Load LoRA" in caught.value.exception_message


def test_a_connected_model_lets_dora_be_measured(server: Server):
    state = load_file(server.loras / "b.safetensors")
    name = next(key for key in state if key.startswith("lora_unet") and "attn1_to_q.lora_down" in key).split(".")[0]
    columns = state[f"{name}.lora_down.weight"].shape[1]
    dora = {key: tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
    dora[f"{name}.dora_scale"] = torch.full((1, columns), 1.5)
    save_file(dora, server.loras / "inspected_dora.safetensors")
    nodes = checkpoint() | {"a": loader("inspected_dora.safetensors")}
    _, report = run(server, nodes, lora1=["a", 0])
    assert "norm not measured" in report and "Connect the model" in report
    _, report = run(server, nodes, lora1=["a", 0], model=["checkpoint", 0], clip=["checkpoint", 1])
    assert "not measured" not in report


def test_a_merger_names_a_strong_imbalance(server: Server):
    settings = {"mode": "concat", "density": 1.0, "device": "cpu", "dtype": "float32"}
    nodes = {
        "a": loader("a.safetensors"),
        "b": loader("b.safetensors", 10.0, 10.0),
        "merge": node("PM LoRA Merger", **settings, lora1=["a", 0], lora2=["b", 0]),
        "save": node("PM LoRA Save", lora=["merge", 0], file_name="imbalance/merged", extension="safetensors"),
    }
    text = server.run(nodes)["merge"]["text"][0]
    assert "b about " in text and " times stronger" in text
