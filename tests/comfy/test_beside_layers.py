"""Layers of int8 models that ComfyUI computes without calling them are patched: a hook on them would do nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A block of Wan with its linear layers in int8, in ComfyUI's own Python; argv: ComfyUI's folder and the pack's.
CODE = """
import json, sys, types
comfyui, pack = sys.argv[1:]
sys.argv = ["main.py"]
sys.path.insert(0, comfyui)
import comfy.cli_args
comfy.cli_args.args.cpu = True
import torch, comfy.ops
from comfy.ldm.wan.model import WanAttentionBlock

for name, folder in (("lora_pack", pack), ("lora_pack.nodes", pack + "/nodes")):
    sys.modules[name] = package = types.ModuleType(name)
    package.__path__ = [folder]
from lora_pack.nodes.beside_layers import layer_of, skips_forward

ops = comfy.ops.mixed_precision_ops({}, torch.float32)
settings = {"operations": ops, "device": None, "dtype": torch.float32}
model = torch.nn.ModuleList([WanAttentionBlock("t2v_cross_attn", 64, 256, 4, operation_settings=settings)])
layers = {name: layer for name, layer in model.named_modules() if type(layer).__name__ == "Linear"}
settings = torch.tensor(list(json.dumps({"format": "int8_tensorwise"}).encode()), dtype=torch.uint8)
state = {}
for name, layer in layers.items():
    weight = torch.randint(-127, 127, (layer.out_features, layer.in_features), dtype=torch.int8)
    bias = torch.zeros(layer.out_features)
    state |= {f"{name}.weight": weight, f"{name}.weight_scale": torch.tensor(0.01), f"{name}.bias": bias}
    state[f"{name}.comfy_quant"] = settings
model.load_state_dict(state, strict=False)
called = []
for name, layer in layers.items():
    layer.register_forward_hook(lambda layer, args, output, name=name: called.append(name))
model[0].ffn(torch.randn(1, 5, 64))
in_ffn = [name for name in layers if ".ffn." in name]
print(json.dumps([[name in called, skips_forward(model, name), layer_of(layers[name]) is not None] for name in in_ffn]))
"""


def test_layers_that_are_not_called_are_known(comfyui_folder: Path, comfyui_python: Path):
    if "def linear_input_act" not in (comfyui_folder / "comfy" / "ops.py").read_text("utf-8"):
        pytest.skip("this ComfyUI calls every layer")
    command = [comfyui_python, "-c", CODE, comfyui_folder, ROOT]
    run = subprocess.run(command, cwd=comfyui_folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    before, after = json.loads(run.stdout.splitlines()[-1])
    assert before == [True, False, True], "the layer before the activation is called, and so gets a hook"
    assert after == [False, True, True], "the layer after the activation isn't called, so that a hook does nothing"
