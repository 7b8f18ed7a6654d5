"""PM Apply LoRA beside the weights, in a real ComfyUI: pictures, what is patched, and that nothing is left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tools.comfy_server import Server
from lora_pack.tools.make_lora import write_lora
from lora_pack.tools.workflows import CHECKPOINT, CLIP, MODEL, checkpoint, lora_chain, node, picture
from safetensors.torch import load_file, save_file

Prompt = dict[str, Any]
BESIDE = "beside the weights"
LOADED = "loaded completely"  # what ComfyUI logs when it loads a model's weights
ROOT = Path(__file__).resolve().parents[2]


def loader(name: str, strength: float = 1.0) -> dict[str, Any]:
    return node("PM LoRA Loader", lora_name=name, strength_model=strength, strength_clip=strength, lbw="")


def applied(
    lora: str, model: float, clip: float = 1.0, how: str = BESIDE, file: str = CHECKPOINT, **more: Any
) -> Prompt:
    """A checkpoint with one LoRA, and a picture of them."""
    inputs = {"model": MODEL, "clip": CLIP, "lora": ["lora", 0], "strength_model": model, "strength_clip": clip}
    return {
        **checkpoint(file),
        "lora": loader(lora),
        "apply": node("PM LoRA Apply", **inputs, how=how),
        **picture(["apply", 0], ["apply", 1], **more),
    }


def sampled(server: Server, prompt: Prompt) -> np.ndarray:
    (file,) = server.images(server.run(prompt), "picture")
    return pixels(file)


def differs(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean())


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal within rounding: ComfyUI computes the text encoder in half precision, and pictures have 8 bits.

    The LoRAs of these tests change pictures by 10 to 20 levels on average.
    """
    return np.abs(first - second).max() <= 4 and differs(first, second) < 0.25


def test_the_picture_is_that_of_patched_weights_and_no_hook_stays(server: Server):
    nodes, model, clip = lora_chain([("a.safetensors", 0.8, 0.5)])
    wanted = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    base = sampled(server, {**checkpoint(), **picture(prefix="base")})
    outputs = server.run(applied("a.safetensors", 0.8, 0.5))
    assert outputs["apply"]["text"] == ["84 of 84 modules applied.\n84 beside the weights."]
    found = pixels(*server.images(outputs, "picture"))
    assert differs(wanted, base) > 10 and same(found, wanted), differs(found, wanted)
    # another prefix, so that ComfyUI doesn't answer from its cache
    assert (sampled(server, {**checkpoint(), **picture(prefix="after", steps=2)}) == base).all()
    after = {**checkpoint(), **nodes, **picture(model, clip, prefix="patched after")}
    assert (sampled(server, after) == wanted).all()


def two_applied(first: str, second: str) -> Prompt:
    inputs = {"model": ["one", 0], "clip": ["one", 1], "lora": ["b", 0], "strength_model": -0.6, "strength_clip": 0.5}
    return {
        **checkpoint(),
        "a": loader("a.safetensors"),
        "b": loader("b.safetensors"),
        "one": node("PM LoRA Apply", model=MODEL, clip=CLIP, lora=["a", 0], strength_model=0.9, how=first),
        "two": node("PM LoRA Apply", **inputs, how=second),
    }


@pytest.mark.parametrize("first, second", [(BESIDE, BESIDE), (BESIDE, "patch weights"), ("patch weights", BESIDE)])
def test_several_loras_on_a_model_add_up(server: Server, first: str, second: str):
    nodes, model, clip = lora_chain([("a.safetensors", 0.9, 1.0), ("b.safetensors", -0.6, 0.5)])
    wanted = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    prompt = two_applied(first, second)
    assert same(sampled(server, {**prompt, **picture(["two", 0], ["two", 1])}), wanted)
    # the first one's model alone, which shares its layers with the second's, and then both again
    nodes, model, clip = lora_chain([("a.safetensors", 0.9, 1.0)])
    alone = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    assert same(sampled(server, {**prompt, **picture(["one", 0], ["one", 1], prefix="one")}), alone)
    assert same(sampled(server, {**prompt, **picture(["two", 0], ["two", 1], prefix="two")}), wanted)


def test_models_of_one_run_keep_apart(server: Server):
    """Branches with and without the LoRA, sampled in turn in one run, with a LoRA of ComfyUI's after ours."""
    nodes, model, clip = lora_chain([("a.safetensors", 0.8, 0.0), ("b.safetensors", 0.7, 0.0)])
    both = sampled(server, {**checkpoint(), **nodes, **picture(model, CLIP)})
    base = sampled(server, {**checkpoint(), **picture()})
    core, model, _ = lora_chain([("b.safetensors", 0.7, 0.0)], ["apply", 0], CLIP)
    prompt = {**applied("a.safetensors", 0.8, 0.0, prefix="chained"), **core, **picture(model, CLIP, prefix="chained")}
    plain = {f"{id}2": value for id, value in picture(prefix="plain").items()}
    for value in plain.values():
        for name, link in value["inputs"].items():
            if isinstance(link, list) and f"{link[0]}2" in plain:
                value["inputs"][name] = [f"{link[0]}2", link[1]]
    for turn in range(3):  # in either order, and again with what ComfyUI kept
        prompt["sampler"]["inputs"]["seed"] = plain["sampler2"]["inputs"]["seed"] = turn % 2
        outputs = server.run(prompt | plain)
        if turn != 1:
            assert same(pixels(*server.images(outputs, "picture")), both)
            assert same(pixels(*server.images(outputs, "picture2")), base)


@pytest.fixture
def mixed(server: Server) -> Iterator[str]:
    """A LoRA of all kinds: factors, a LoHa, a LoKr, a full difference, and a norm, a bias and a DoRA."""
    state = load_file(server.loras / "b.safetensors")
    noise = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=noise) * 0.02

    block = "lora_unet_down_blocks_0_attentions_0"
    inner = f"{block}_transformer_blocks_0"
    changed = [f"{inner}_{name}" for name in ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn1_to_out_0", "attn2_to_q")]
    state = {key: value for key, value in state.items() if key.split(".")[0] not in changed}
    loha, lokr, difference, dora, biased = changed
    for name, shape in (("w1_a", (320, 30)), ("w1_b", (30, 320)), ("w2_a", (320, 30)), ("w2_b", (30, 320))):
        state[f"{loha}.hada_{name}"] = normal(*shape) * 3
    state |= {f"{lokr}.lokr_w1": normal(16, 16), f"{lokr}.lokr_w2": normal(20, 20) * 30}
    state[f"{difference}.diff"] = normal(320, 320)
    state |= {f"{dora}.lora_up.weight": normal(320, 4) * 3, f"{dora}.lora_down.weight": normal(4, 320) * 3}
    state[f"{dora}.dora_scale"] = 1 + normal(320, 1)
    state |= {f"{block}_norm.w_norm": normal(320), f"{biased}.diff_b": normal(320)}
    file = server.loras / "all_kinds.safetensors"
    save_file(state, file)
    yield file.name
    file.unlink()


def test_what_cannot_be_beside_the_weights_is_patched_and_named(server: Server, mixed: str):
    wanted = sampled(server, applied(mixed, 0.8, 0.5, "patch weights"))
    outputs = server.run(applied(mixed, 0.8, 0.5))
    counted, divided = outputs["apply"]["text"][0].splitlines()
    assert counted == "85 of 85 modules applied."
    reasons = "biases and norms (2), DoRA (1)"
    assert divided == f"82 beside the weights. Patched into them, because they can't be beside them: {reasons}."
    found = pixels(*server.images(outputs, "picture"))
    assert same(found, wanted), differs(found, wanted)


def test_parts_of_a_fused_layer_and_swapped_halves_get_their_rows(
    server: Server, comfyui_folder: Path, comfyui_python: Path
):
    """SD 3 has q, k and v in one layer, and its final layer's halves in another order than diffusers."""
    files = [server.base / "models" / kind / "beside_sd3.safetensors" for kind in ("diffusion_models", "vae")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([comfyui_python, ROOT / "tools" / "make_sd3_checkpoint.py", comfyui_folder, *files], check=True)
    parts = [(f"transformer.transformer_blocks.0.attn.to_{part}", 128, 128, False) for part in "qv"]
    modules = [*parts, ("transformer.norm_out.linear", 256, 128, False)]
    write_lora(server.loras / "beside_sd3.safetensors", rank=16, seed=3, modules=modules)
    common = {
        **checkpoint(),
        "model": node("UNETLoader", unet_name=files[0].name, weight_dtype="default"),
        "vae": node("VAELoader", vae_name=files[1].name),
        "lora": loader("beside_sd3.safetensors", 3.0),
    }
    shown: dict[str, np.ndarray] = {}
    for how in ("patch weights", BESIDE):
        apply = node("PM LoRA Apply", model=["model", 0], lora=["lora", 0], how=how)
        outputs = server.run({**common, "apply": apply, **picture(["apply", 0], CLIP, ["vae", 0], prefix="sd3")})
        assert outputs["apply"]["text"][0].startswith("3 of 3 modules applied.")
        shown[how] = pixels(*server.images(outputs, "picture"))
    assert outputs["apply"]["text"][0].endswith("3 beside the weights.")
    base = sampled(server, {**common, **picture(["model", 0], CLIP, ["vae", 0], prefix="sd3")})
    for file in (*files, server.loras / "beside_sd3.safetensors"):
        file.unlink()
    assert differs(base, shown[BESIDE]) > 2
    assert same(shown[BESIDE], shown["patch weights"]), differs(shown[BESIDE], shown["patch weights"])


@pytest.mark.parametrize("ours_first", [True, False])
def test_comfyuis_own_bypass_adds_up_with_ours(server: Server, ours_first: bool):
    if not server.object_info("LoraLoaderBypass"):
        pytest.skip("this ComfyUI has no bypass")
    nodes, model, clip = lora_chain([("a.safetensors", 0.9, 1.0), ("b.safetensors", 0.6, 0.5)])
    wanted = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    first = (MODEL, CLIP) if ours_first else (["theirs", 0], ["theirs", 1])
    second = (["apply", 0], ["apply", 1]) if ours_first else (MODEL, CLIP)
    last = "theirs" if ours_first else "apply"
    inputs = {"lora_name": "b.safetensors", "strength_model": 0.6, "strength_clip": 0.5}
    prompt = {
        **checkpoint(),
        "a": loader("a.safetensors"),
        "apply": node("PM LoRA Apply", model=first[0], clip=first[1], lora=["a", 0], strength_model=0.9, how=BESIDE),
        "theirs": node("LoraLoaderBypass", model=second[0], clip=second[1], **inputs),
    }
    for turn in range(2):  # the second time over hooks that were taken off and put on again
        found = sampled(server, {**prompt, **picture([last, 0], [last, 1], prefix=f"bypass {turn}")})
        assert same(found, wanted), differs(found, wanted)


def test_another_strength_alone_does_not_load_the_model_again(server: Server):
    server.run(applied("a.safetensors", 0.5, 0.5))
    before = len(server.log())
    for number, strength in enumerate((0.6, 0.7, 0.8)):
        server.run(applied("a.safetensors", strength, strength, prefix=f"strength {number}"))
    assert LOADED not in server.log()[before:]
    before = len(server.log())
    server.run(applied("a.safetensors", 0.6, 0.6, "patch weights", prefix="patched again"))
    assert LOADED in server.log()[before:], "ComfyUI no longer logs it: the assertion above shows nothing"


def quantised_as(kind: str, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight in one of ComfyUI's formats with one scale, rounded to the nearest, and the scale."""
    values = weight.float()
    dtype, most = (torch.int8, 127) if kind.startswith("int8") else (torch.float8_e4m3fn, 448)
    scale = values.abs().max() / most
    scaled = values / scale
    return (scaled.round() if dtype == torch.int8 else scaled).clamp(-most, most).to(dtype), scale


@pytest.fixture
def quantised(server: Server, comfyui_folder: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The small checkpoint with the transformers' linear layers quantised, and the same values in float32."""
    kind = request.param
    layouts = comfyui_folder / "comfy" / "quant_ops.py"
    if not layouts.is_file() or "int8_tensorwise" not in layouts.read_text("utf-8"):
        pytest.skip("this ComfyUI has no quantised models of this kind")
    state = load_file(server.checkpoints / CHECKPOINT)
    small, whole = dict(state), {key: value.float() for key, value in state.items()}
    settings = torch.tensor(list(json.dumps({"format": kind}).encode()), dtype=torch.uint8)
    for key, weight in state.items():
        if ".transformer_blocks." in key and weight.ndim == 2:
            stem = key.removesuffix(".weight")
            rounded, scale = quantised_as(kind, weight)
            small |= {key: rounded, f"{stem}.weight_scale": scale, f"{stem}.comfy_quant": settings.clone()}
            whole[key] = rounded.float() * scale
    names = f"{kind}.safetensors", f"of_{kind}.safetensors"
    for name, tensors in zip(names, (small, whole), strict=True):
        save_file(tensors, server.checkpoints / name)
    yield names
    for name in names:
        (server.checkpoints / name).unlink()


# Measured in levels of 255, beside and patched: int8 4.7 and 13.4. Without a LoRA the int8 model itself differs by 6.4,
# because it rounds activations.
@pytest.mark.parametrize("quantised", ["int8_tensorwise"], indirect=True)
def test_a_quantised_model_comes_nearer_to_the_unquantised_one_than_by_patching(
    server: Server, quantised: tuple[str, str]
):
    small, whole = quantised
    settings = {"lora": "a.safetensors", "model": 0.8, "clip": 0.5}
    exact = sampled(server, applied(**settings, how="patch weights", file=whole))
    beside, patched = (sampled(server, applied(**settings, how=how, file=small)) for how in (BESIDE, "patch weights"))
    print(f"\n{small}: beside {differs(beside, exact)}, patched {differs(patched, exact)}")
    assert 1.5 * differs(beside, exact) < differs(patched, exact)
