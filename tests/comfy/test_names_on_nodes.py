"""Messages on the nodes of a real ComfyUI about unknown names and modules that don't fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lora_pack.tests.comfy.test_nodes import apply, loader, merger, saver
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.workflows import checkpoint, node
from safetensors.torch import load_file, save_file
from torch import Tensor

SDXL = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k"


def module(name: str, rows: int, columns: int) -> dict[str, Tensor]:
    return {f"{name}.lora_up.weight": torch.ones(rows, 2), f"{name}.lora_down.weight": torch.ones(2, columns)}


@pytest.fixture(scope="module")
def files(server: Server) -> dict[str, str]:
    """unknown: names of no known model; half: a's modules, one of them with another shape, and an unknown one."""
    unknown = {key: value for n in range(3) for key, value in module(f"net.imagined.{n}.mixer", 8, 8).items()}
    half = load_file(server.loras / "a.safetensors") | module("lora_unet_imagined", 8, 8)
    wrong = next(key for key in half if key.endswith("attn1_to_q.lora_up.weight"))
    half[wrong] = torch.ones(half[wrong].shape[0] // 2, half[wrong].shape[1])
    for name, tensors in {"unknown": unknown, "half": half, "sdxl": module(SDXL, 640, 2048)}.items():
        save_file(tensors, server.loras / f"{name}_names.safetensors")
    return {name: f"{name}_names.safetensors" for name in ("unknown", "half", "sdxl")}


def text(server: Server, nodes: dict[str, Any], which: str) -> str:
    output = node("PreviewAny", source=[which, 0])
    return "\n".join(server.run({**checkpoint(), **nodes, "shown": output})[which]["text"])


def test_merger_and_save_show_unknown_names(server: Server, files: dict[str, str]):
    before = len(server.log())
    nodes = {"a": loader(files["unknown"]), "b": loader(files["unknown"], 0.5), "m": merger("a", "b")}
    outputs = server.run({**nodes, "save": saver("m", "unknown_merge")})
    for which in ("m", "save"):
        shown = "\n".join(outputs[which]["text"])
        assert "3 of 3 module names are unknown (net.imagined.0.mixer and 2 more)" in shown
        assert "Connect the model and clip" in shown
    assert "3 of 3 module names are unknown" in server.log()[before:]
    outputs = server.run({"a": loader(files["unknown"], 0.9), "save": saver("a", "unknown_copy")})
    assert "3 of 3 module names are unknown" in "\n".join(outputs["save"]["text"])


def test_merger_shows_names_that_the_connected_model_lacks(server: Server, files: dict[str, str]):
    nodes = {"a": loader(files["unknown"], 0.7), "m": merger("a", model=["checkpoint", 0], clip=["checkpoint", 1])}
    outputs = server.run({**checkpoint(), **nodes, "save": saver("m", "unknown_with_model")})
    assert "The connected model has no such weights" in "\n".join(outputs["m"]["text"])


def test_merger_shows_the_family(server: Server):
    nodes = {"a": loader("a.safetensors"), "b": loader("b.safetensors", 0.3), "m": merger("a", "b")}
    outputs = server.run({**nodes, "save": saver("m", "family")})
    assert outputs["m"]["text"][0].startswith("SD 1.5, 84 modules, ")


def test_apply_shows_how_many_modules_were_applied(server: Server, files: dict[str, str]):
    assert text(server, {"a": loader("a.safetensors", 0.11), "p": apply("a")}, "p") == "84 of 84 modules applied."
    shown = text(server, {"a": loader(files["half"]), "p": apply("a")}, "p")
    assert shown.startswith(
        "83 of 85 modules applied. 1 has no matching weight in this model (lora_unet_imagined). 1 has a different shape"
    )


def test_apply_names_the_loras_family_if_nothing_fits(server: Server, files: dict[str, str]):
    shown = text(server, {"a": loader(files["sdxl"]), "p": apply("a")}, "p")
    assert shown.startswith("0 of 1 modules applied.")
    # the small checkpoint has fewer blocks than SD 1.5, so that its family is not known
    assert "sdxl_names is for SDXL, but this model is of another kind." in shown


def test_apply_says_if_a_text_encoder_is_not_connected(server: Server):
    inputs = node("PM LoRA Apply", model=["checkpoint", 0], lora=["a", 0])
    shown = text(server, {"a": loader("a.safetensors", 0.12), "p": inputs}, "p")
    assert "text encoder modules not applied because no clip is connected." in shown
