"""The scale that the trainer intended, and PEFT's DoRA, in the nodes of a real ComfyUI."""

from __future__ import annotations

import json
import os
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.merge.formats.peft_dora import PeftDora
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tests.support.makers import of_modules
from lora_pack.tools.comfy_server import NodeError, PromptRejected, Server
from lora_pack.tools.workflows import CLIP, MODEL, checkpoint, lora_chain, node, picture
from safetensors.torch import load_file, save_file
from torch import Tensor

PATHS = [f"up_blocks.3.attentions.{n}.transformer_blocks.0.attn{m}.to_q" for n in (0, 1) for m in (1, 2)]
TEXT = "text_encoder.text_model.encoder.layers.1.self_attn.q_proj"
SIZES = {f"unet.{path}": 320 for path in PATHS} | {TEXT: 768}
HEADER = {"unet.r": 4, "unet.lora_alpha": 16, "text_encoder.r": 4, "text_encoder.lora_alpha": 16}


def values(*size: int, seed: int, scale: float) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale


def peft_tensors(seed: int = 0, with_magnitude: bool = False) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number, (name, size) in enumerate(SIZES.items(), seed):
        tensors[f"{name}.lora_B.weight"] = values(size, 4, seed=number, scale=0.08)
        tensors[f"{name}.lora_A.weight"] = values(4, size, seed=number + 50, scale=0.08)
        if with_magnitude:
            tensors[f"{name}.lora_magnitude_vector"] = values(size, seed=number + 90, scale=0.3).abs() + 0.8
    return tensors


def loader(name: str, strength: float = 1.0, **more: Any) -> dict[str, Any]:
    return node("PM LoRA Loader", lora_name=name, strength_model=strength, strength_clip=strength, lbw="", **more)


def merger(**inputs: Any) -> dict[str, Any]:
    return node("PM LoRA Merger", mode="concat", density=1.0, device="cpu", dtype="float32", **inputs)


def svd_merger(**inputs: Any) -> dict[str, Any]:
    settings = {"mode": "add_svd", "density": 1.0, "svd_rank": 768, "svd_conv_rank": 0}
    return node("PM LoRA SVD Merger", **settings, device="cpu", dtype="float32", **inputs)


def saver(link: str, name: str, **more: Any) -> dict[str, Any]:
    return node("PM LoRA Save", lora=[link, 0], file_name=name, extension="safetensors", **more)


def sampled(server: Server, prompt: dict[str, Any]) -> np.ndarray:
    (file,) = server.images(server.run(prompt), "picture")
    return pixels(file)


def same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    return np.abs(first - second).max() <= 3 and np.abs(first - second).mean() < 0.1


def applied(name: str, strength: float = 1.0, **more: Any) -> dict[str, Any]:
    """A picture made with PM Load LoRA and PM Apply LoRA."""
    return {
        **checkpoint(),
        "l": loader(name, strength, **more),
        "a": node("PM LoRA Apply", model=MODEL, clip=CLIP, lora=["l", 0]),
        **picture(["a", 0], ["a", 1]),
    }


def by_comfyui(name: str, strength: float = 1.0) -> dict[str, Any]:
    nodes, model, clip = lora_chain([(name, strength, strength)])
    return {**checkpoint(), **nodes, **picture(model, clip)}


@pytest.fixture(scope="module")
def kohya(server: Server) -> str:
    """The same tensors with names that ComfyUI's key map has."""
    tensors = {}
    for key, tensor in peft_tensors().items():
        name, half = key.removesuffix(".weight").split(".lora_")
        name = "lora_" + name.replace("text_encoder.", "te.").replace(".", "_")
        tensors[f"{name}.lora_{'up' if half == 'B' else 'down'}.weight"] = tensor
    save_file(tensors, server.loras / "scale_kohya.safetensors")
    return "scale_kohya.safetensors"


def test_alpha_from_selects_the_trainers_scale_or_comfyuis(server: Server, kohya: str):
    save_file(peft_tensors(), server.loras / "scale_header.safetensors", {"lora_adapter_metadata": json.dumps(HEADER)})
    before = len(server.log())
    trainers = sampled(server, applied("scale_header.safetensors"))
    tensors = sampled(server, applied("scale_header.safetensors", alpha_from="tensors"))
    log = server.log()[before:]
    assert "scale_header: the scale is 4 by the trainer's alpha" in log
    assert "scale_header: the scale is 1, as in ComfyUI's own loader" in log
    one, four = (sampled(server, by_comfyui(kohya, strength)) for strength in (1.0, 4.0))
    assert np.abs(one - four).mean() > 1
    assert same_picture(trainers, four) and same_picture(tensors, one)
    with pytest.raises(PromptRejected):
        server.run(applied("scale_header.safetensors", alpha_from="elsewhere"))


def test_merge_and_save_show_the_scale_note_on_the_node(server: Server, kohya: str):
    save_file(peft_tensors(), server.loras / "scale_shown.safetensors", {"lora_adapter_metadata": json.dumps(HEADER)})
    prompt = {"l": loader("scale_shown.safetensors"), "k": loader(kohya), "m": merger(lora1=["l", 0], lora2=["k", 0])}
    outputs = server.run({**prompt, "s": saver("m", "scale_shown_out")})
    for node_id in ("m", "s"):
        first, *_, second = "\n".join(outputs[node_id]["text"]).splitlines()
        assert second.startswith("scale_shown: the scale is 4 by the trainer's alpha"), node_id
    assert "lora_adapter_metadata" not in load(server.loras / outputs["s"]["text"][0]).metadata


def test_a_changed_adapter_config_is_reloaded(server: Server):
    folder = server.loras / "scale_adapter"
    folder.mkdir()
    tensors = {f"base_model.model.{key.removeprefix('unet.')}": t for key, t in peft_tensors().items() if "unet" in key}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = folder / "adapter_config.json"
    listed = server.object_info("PM LoRA Loader")["input"]["required"]["lora_name"][0]
    name = os.path.join("scale_adapter", "adapter_model.safetensors")
    assert name in listed
    found = []
    for alpha in (16, 8, None, 32):
        if alpha is None:
            config.unlink()
        else:
            config.write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": alpha}))
            os.utime(config, ns=(alpha, alpha * 10**9))
        outputs = server.run({"l": loader(name), "s": saver("l", "scale_adapter_out")})
        (alpha_of,) = {
            float(t) for k, t in load_file(server.loras / outputs["s"]["text"][0]).items() if k.endswith(".alpha")
        }
        found.append(alpha_of)
    assert found == [16, 8, 4, 32]
    config.write_text('{"r": NaN}')
    with pytest.raises(NodeError, match=r"scale_adapter/adapter_model: its adapter_config\.json holds NaN") as refused:
        server.run({"l": loader(name), "s": saver("l", "scale_adapter_out")})
    assert refused.value.node_type == "PM LoRA Loader"


# --- tensors that are not part of a LoRA ---


def test_embeddings_are_kept_and_dropped_tensors_are_reported(server: Server, kohya: str):
    words = {"bundle_emb.cat.clip_l": torch.ones(2, 768)}
    extra = {f"diffusion_model.blocks.{n}.diff_m": torch.ones(1, 6, 8) for n in range(40)}
    save_file(load_file(server.loras / kohya) | words | extra, server.loras / "scale_others.safetensors")
    before = len(server.log())
    prompt = {"l": loader("scale_others.safetensors"), "m": merger(lora1=["l", 0]), "s": saver("m", "scale_others_out")}
    outputs = server.run(prompt)
    note = "scale_others: 40 tensors are left out (diffusion_model.blocks.0.diff_m, "
    assert note in "\n".join(outputs["m"]["text"]) and note in server.log()[before:]
    written = load_file(server.loras / outputs["s"]["text"][0])
    assert torch.equal(written["bundle_emb.cat.clip_l"], words["bundle_emb.cat.clip_l"])
    assert not [key for key in written if key.endswith(".diff_m")]
    before = len(server.log())
    assert same_picture(sampled(server, applied("scale_others.safetensors")), sampled(server, by_comfyui(kohya)))
    assert "lora key not loaded" not in server.log()[before:], "PM Apply LoRA passed ComfyUI keys that it doesn't know"


# --- PEFT's DoRA ---


@pytest.fixture(scope="module")
def dora(server: Server) -> str:
    header = {"lora_adapter_metadata": json.dumps(HEADER)}
    save_file(peft_tensors(with_magnitude=True), server.loras / "scale_dora.safetensors", header)
    return "scale_dora.safetensors"


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["concat", "SVD", "resize"])
def test_a_dora_merged_with_its_model_gives_the_same_picture(server: Server, dora: str, kind: str, strength: float):
    base = {"model": MODEL, "clip": CLIP}
    works = {
        "concat": merger(lora1=["l", 0], **base),
        "SVD": svd_merger(lora1=["l", 0], **base),
        "resize": node("PM LoRA Resizer", lora=["l", 0], new_rank=768, device="cpu", dtype="float32", **base),
    }
    prompt = {**checkpoint(), "l": loader(dora, strength), "m": works[kind], "s": saver("m", f"scale_dora_{kind}")}
    written = server.loras / server.run(prompt)["s"]["text"][0]
    assert {module.family for module in load(written).modules.values()} == {"LoRA"}
    before = len(server.log())
    found = sampled(server, applied(dora, strength))
    assert "5 of 5 modules applied" in server.log()[before:]
    assert same_picture(found, sampled(server, by_comfyui(written.name)))
    assert np.abs(found - sampled(server, {**checkpoint(), **picture()})).mean() > 1


def test_merging_a_dora_without_its_model_says_what_to_connect(server: Server, dora: str):
    with pytest.raises(NodeError, match="DoRA of PEFT module .*Connect the model and clip"):
        server.run({"l": loader(dora), "m": svd_merger(lora1=["l", 0]), "s": saver("m", "never")})
    with pytest.raises(NodeError, match="has no weight in the connected model"):
        merge = svd_merger(lora1=["l", 0], model=MODEL)  # but not the text encoder
        server.run({**checkpoint(), "l": loader(dora), "m": merge, "s": saver("m", "never")})


def test_loading_and_saving_a_dora_loses_nothing(server: Server, dora: str):
    written = server.loras / server.run({"l": loader(dora), "s": saver("l", "scale_dora_saved")})["s"]["text"][0]
    assert same_picture(sampled(server, applied(dora)), sampled(server, applied(written.name)))


# --- the same numbers, in this process ---

WEIGHT = "diffusion_model.block.weight"


def swap(tensor: Tensor) -> Tensor:
    return torch.cat([tensor[tensor.shape[0] // 2 :], tensor[: tensor.shape[0] // 2]])


# name -> target in ComfyUI's key map
TARGETS: dict[str, Any] = {
    "whole": WEIGHT,
    "rows": (WEIGHT, (0, 4, 8)),
    "swapped": (WEIGHT, None, swap),
}


def dora_of(rows: int, shape: tuple[int, ...], name: str, block_weight: float = 1.0) -> PeftDora:
    kernel = (1,) * (len(shape) - 1)
    direction = LoraModule.of(name, values(rows, 2, *kernel, seed=1, scale=1), values(2, *shape, seed=2, scale=1), 3.0)
    return PeftDora(name, direction, values(rows, seed=3, scale=1).abs(), block_weight)


def by_formula(module: PeftDora, weight: Tensor) -> Tensor:
    """W' - W in float64, from the definition."""
    rows = weight.double().flatten(1)
    up, down = (factor.double() for factor in module.direction.factors())
    directed = rows + 3.0 / 2 * up @ down
    norms = directed.pow(2).sum(1, keepdim=True).sqrt()
    return (module.magnitude.double()[:, None] * directed / norms - rows).reshape(weight.shape)


def wanted_change(name: str, module: PeftDora, weight: Tensor) -> Tensor:
    change = torch.zeros_like(weight, dtype=torch.float64)
    if name == "rows":
        change[4:12] = by_formula(module, weight[4:12])
    elif name == "swapped":
        change = swap(by_formula(module, swap(weight)))
    else:
        change = by_formula(module, weight)
    return change


each_target = pytest.mark.parametrize("name", TARGETS)
each_kernel = pytest.mark.parametrize("kernel", [(), (3, 3), (1, 1)], ids=str)


@each_target
@each_kernel
@pytest.mark.parametrize("strength", [1.0, -0.7])
def test_the_dora_patch_adds_the_formulas_delta_times_the_strength(
    comfy: ModuleType, name: str, kernel: tuple[int, ...], strength: float
):
    from lora_pack.nodes.peft_dora_patch import PeftDoraPatch

    weight = values(16, 5, *kernel, seed=9, scale=1)
    module = dora_of(8 if name == "rows" else 16, (5, *kernel), name)
    up, down = module.direction.factors()
    patch = PeftDoraPatch({name}, (up, down, module.direction.scale, module.magnitude))
    target = TARGETS[name] if isinstance(TARGETS[name], tuple) else (TARGETS[name], None)
    offset, function = target[1], target[2] if len(target) > 2 else None
    changed = comfy.lora.calculate_weight([(strength, patch, 1.0, offset, function)], weight.clone(), WEIGHT)
    wanted = weight.double() + strength * wanted_change(name, module, weight)
    assert torch.allclose(changed.double(), wanted, rtol=1e-5, atol=1e-5)


def test_a_dora_patch_with_a_mismatched_shape_changes_nothing(comfy: ModuleType, caplog: pytest.LogCaptureFixture):
    from lora_pack.nodes.peft_dora_patch import PeftDoraPatch

    module = dora_of(16, (5,), "x")
    up, down = module.direction.factors()
    patch = PeftDoraPatch({"x"}, (up, down, module.direction.scale, module.magnitude))
    for shape in ((16, 6), (15, 5), (16, 5, 3, 3)):
        weight = values(*shape, seed=9, scale=1)
        changed = comfy.lora.calculate_weight([(1.0, patch, 1.0, None, None)], weight.clone(), WEIGHT)
        assert torch.equal(changed, weight)
    assert caplog.text.count("is not applied") == 3


@each_target
def test_dora_patches_go_to_model_and_text_encoder_with_their_strengths(
    comfy: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
):
    from lora_pack.nodes import comfy_bridge
    from lora_pack.nodes.peft_dora_patch import add_peft_dora

    class Patched:
        def __init__(self) -> None:
            self.patches: list[tuple[dict, float]] = []

        def add_patches(self, patches: dict, strength: float) -> None:
            self.patches.append((patches, strength))

    encoder = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    monkeypatch.setattr(comfy_bridge, "key_map", lambda model, clip: {name: TARGETS[name], encoder: "te.weight"})
    modules = [dora_of(16, (5,), name, 0.5), dora_of(16, (5,), encoder), dora_of(16, (5,), "unknown")]
    model, clip = Patched(), Patched()
    add_peft_dora(model, clip, Lora("a", {module.name: module for module in modules}, 0.8, -2.0))
    assert [(list(patches), strength) for patches, strength in model.patches] == [([TARGETS[name]], 0.4)]
    assert [(list(patches), strength) for patches, strength in clip.patches] == [(["te.weight"], -2.0)]
    add_peft_dora(model, None, Lora("a", {encoder: modules[1]}))
    add_peft_dora(model, None, of_modules([LoraModule.of("x", torch.ones(2, 1), torch.ones(1, 2), 1.0)]))
    assert len(model.patches) == 1


@each_target
@each_kernel
def test_a_merged_dora_uses_the_connected_models_weight(
    comfy: ModuleType, name: str, kernel: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    from lora_pack.nodes import base_weights, comfy_bridge

    weight = values(16, 5, *kernel, seed=9, scale=1)
    module = dora_of(8 if name == "rows" else 16, (5, *kernel), name)
    known = {WEIGHT: comfy_bridge.BaseWeight(weight.shape, weight.clone)}
    monkeypatch.setattr(comfy_bridge, "key_map", lambda model, clip: TARGETS)
    monkeypatch.setattr(comfy_bridge, "base_weights", lambda model, clip: known)
    resolved = base_weights.with_base_weights(Lora("a", {name: module}), object(), None).modules[name]
    own = {"rows": weight[4:12], "swapped": swap(weight)}.get(name, weight)
    assert resolved.weight_shape == tuple(own.shape) and not resolved.is_weight_dependent
    wanted = by_formula(module, own).flatten(1)
    assert float((resolved.dense().double() - wanted).norm() / wanted.norm()) <= 1e-6
    with pytest.raises(LoraError, match="is for a weight of shape 7x5.* but the connected model's is"):
        base_weights.with_base_weights(Lora("a", {name: dora_of(7, (5, *kernel), name)}), object(), None)
