"""DoRA, GLoRA, OFT and BOFT with a connected model: the merged file gives the same picture as ComfyUI's own loader."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lora_pack.merge.files import load
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tools.comfy_server import NodeError, Server
from lora_pack.tools.make_lora import write_lora
from lora_pack.tools.workflows import CLIP, MODEL, checkpoint, lora_chain, node, picture
from safetensors.torch import save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
UNET = [f"lora_unet_up_blocks_3_attentions_{n}_transformer_blocks_0_attn{m}_to_q" for n in (0, 1) for m in (1, 2)]
TEXT = ["lora_te_text_model_encoder_layers_1_self_attn_q_proj"]
SIZES = {name: 320 for name in UNET} | {name: 768 for name in TEXT}


def values(*size: int, seed: int, scale: float) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale


def dora(size: int, seed: int) -> dict[str, Tensor]:
    return {
        "lora_up.weight": values(size, 4, seed=seed, scale=0.2),
        "lora_down.weight": values(4, size, seed=seed + 1, scale=0.2),
        "alpha": torch.tensor(4.0),
        "dora_scale": values(size, 1, seed=seed + 2, scale=0.2).abs() + 0.9,
    }


def glora(size: int, seed: int) -> dict[str, Tensor]:
    first = {f"{part}1.weight": values(size, 4, seed=seed + n, scale=0.1) for n, part in enumerate("ab")}
    return first | {f"{part}2.weight": values(4, size, seed=seed + n + 2, scale=0.1) for n, part in enumerate("ab")}


def oft(size: int, seed: int) -> dict[str, Tensor]:
    return {"oft_blocks": values(size // 16, 16, 16, seed=seed, scale=0.1), "alpha": torch.tensor(0.0)}


def boft(size: int, seed: int) -> dict[str, Tensor]:
    return {"oft_blocks": values(2, size // 16, 16, 16, seed=seed, scale=0.1), "alpha": torch.tensor(0.0)}


FAMILIES: dict[str, Callable[[int, int], dict[str, Tensor]]] = {"DoRA": dora, "GLoRA": glora, "OFT": oft, "BOFT": boft}


@pytest.fixture(scope="module", params=FAMILIES)
def file(request: pytest.FixtureRequest, server: Server) -> str:
    """A LoRA file of the family, named after it."""
    make = FAMILIES[request.param]
    tensors = {
        f"{name}.{suffix}": tensor
        for seed, (name, size) in enumerate(SIZES.items())
        for suffix, tensor in make(size, 10 * seed).items()
    }
    save_file(tensors, server.loras / f"{request.param}.safetensors")
    return f"{request.param}.safetensors"


Sampled = Callable[[dict], np.ndarray]


@pytest.fixture(scope="module")
def sampled(server: Server) -> Sampled:
    """Samples a prompt's picture, once for all tests that need it."""
    known: dict[str, np.ndarray] = {}

    def sampled(prompt: dict) -> np.ndarray:
        text = json.dumps(prompt)
        if text not in known:
            (file,) = server.images(server.run(prompt), "picture")
            known[text] = pixels(file)
        return known[text]

    return sampled


def loaded(file: str, strength: float) -> dict:
    return node("PM LoRA Loader", lora_name=file, strength_model=strength, strength_clip=strength, lbw="")


def merged(kind: str, **inputs) -> dict:
    return node(kind, device="cpu", dtype="float32", **inputs)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("operation", ["SVD merge", "concat", "resize"])
def test_the_merged_file_gives_the_same_picture_as_comfyuis_loader(
    server: Server, sampled: Sampled, file: str, operation: str, strength: float
):
    nodes, model, clip = lora_chain([(file, strength, strength)])
    wanted = sampled({**checkpoint(), **nodes, **picture(model, clip)})
    base = {"model": MODEL, "clip": CLIP}
    operations = {
        "SVD merge": merged(
            "PM LoRA SVD Merger", mode="add_svd", density=1.0, svd_rank=768, svd_conv_rank=0, lora1=["l", 0], **base
        ),
        "concat": merged("PM LoRA Merger", mode="concat", density=1.0, lora1=["l", 0], **base),
        "resize": merged("PM LoRA Resizer", lora=["l", 0], new_rank=768, **base),
    }
    prompt = {
        **checkpoint(),
        "l": loaded(file, strength),
        "m": operations[operation],
        "save": node(
            "PM LoRA Save", lora=["m", 0], file_name=f"{operation}_{strength}_{file[:-12]}", extension="safetensors"
        ),
    }
    written = server.loras / server.run(prompt)["save"]["text"][0]
    assert {module.family for module in load(written).modules.values()} == {"LoRA"}
    nodes, model, clip = lora_chain([(written.name, 1.0, 1.0)])
    found = sampled({**checkpoint(), **nodes, **picture(model, clip)})
    plain = sampled({**checkpoint(), **picture()})
    assert np.abs(wanted - plain).mean() > 1
    assert np.abs(found - wanted).max() <= 3 and np.abs(found - wanted).mean() < 0.1


def test_merging_without_the_model_says_what_to_connect(server: Server, file: str):
    merge = merged("PM LoRA SVD Merger", mode="ties_svd", density=0.5, svd_rank=8, svd_conv_rank=0, lora1=["l", 0])
    save = node("PM LoRA Save", lora=["m", 0], file_name="never", extension="safetensors")
    with pytest.raises(NodeError, match=rf"{file[:-12]} module lora_.*Connect the model and clip"):
        server.run({"l": loaded(file, 1.0), "m": merge, "save": save})


def test_the_wrong_model_is_refused(server: Server, file: str):
    merge = merged("PM LoRA Merger", mode="concat", density=1.0, lora1=["l", 0], model=MODEL)  # no clip
    save = node("PM LoRA Save", lora=["m", 0], file_name="never", extension="safetensors")
    with pytest.raises(NodeError, match="lora_te_text_model.*has no weight in the connected model"):
        server.run({**checkpoint(), "l": loaded(file, 1.0), "m": merge, "save": save})


def test_a_connected_model_resolves_names(server: Server, comfyui_folder: Path, comfyui_python: Path):
    """This transformer has SD 3's names but not its widths, so the names alone don't identify it."""
    files = [server.base / "models" / kind / "resolved_sd3.safetensors" for kind in ("diffusion_models", "vae")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([comfyui_python, ROOT / "tools" / "make_sd3_checkpoint.py", comfyui_folder, *files], check=True)
    whole = [("lora_unet_joint_blocks_0_x_block_attn_qkv", 384, 128, False)]
    parts = [(f"transformer.transformer_blocks.0.attn.to_{part}", 128, 128, False) for part in "qkv"]
    for name, modules in (("fused", whole), ("parts", parts)):
        write_lora(server.loras / f"{name}.safetensors", rank=4, seed=len(name), modules=modules)
    model = {"model": node("UNETLoader", unet_name=files[0].name, weight_dtype="default")}
    nodes = {f"l{n}": loaded(f"{name}.safetensors", 1.0) for n, name in enumerate(("fused", "parts"), 1)}
    inputs = {"mode": "concat", "density": 1.0, "lora1": ["l1", 0], "lora2": ["l2", 0], "model": ["model", 0]}
    merge = merged("PM LoRA Merger", **inputs)
    save = node("PM LoRA Save", lora=["m", 0], file_name="joined", extension="safetensors")
    written = server.loras / server.run({**model, **nodes, "m": merge, "save": save})["save"]["text"][0]
    (joined,) = load(written).modules.values()
    assert (joined.name, joined.rank) == (whole[0][0], 4 + 3 * 4)
    fused = load(server.loras / "fused.safetensors").modules[whole[0][0]].dense()
    split = load(server.loras / "parts.safetensors").modules
    added = torch.cat([split[name].dense() for name, *_ in parts])
    assert torch.allclose(joined.dense(), fused + added, rtol=1e-3, atol=1e-4)
