"""PM Bake LoRA and PM Extract LoRA in a real ComfyUI: pictures with and without them are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lora_pack.merge.files import load
from lora_pack.merge.models.bake import bake
from lora_pack.tests.comfy.pictures import pixels
from lora_pack.tools.comfy_server import NodeError, Server
from lora_pack.tools.workflows import CHECKPOINT, CLIP, MODEL, checkpoint, lora_chain, node, picture
from safetensors.torch import load_file, save_file

Prompt = dict[str, Any]


def baking(lora: str, file_name: str, model: float = 1.0, clip: float = 1.0, **more: Any) -> Prompt:
    """PM Bake LoRA with a loaded LoRA, as node "bake"."""
    settings = {"model_file": f"checkpoints/{CHECKPOINT}", "dtype": "as the file"} | more
    loaded = node("PM LoRA Loader", lora_name=lora, strength_model=1.0, strength_clip=1.0, lbw="")
    inputs = {"strength_model": model, "strength_clip": clip, "file_name": file_name, **settings}
    return {"lora": loaded, "bake": node("PM LoRA Bake", lora=["lora", 0], **inputs)}


def sampled(server: Server, prompt: Prompt) -> np.ndarray:
    (file,) = server.images(server.run(prompt), "picture")
    return pixels(file)


def differs(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean())


# On a CPU ComfyUI computes in float32 and doesn't round the patched weights to the file's float16, as baking does.
@pytest.mark.parametrize("dtype, most", [("float32", 0.005), ("as the file", 0.05)])
def test_a_baked_checkpoint_gives_the_picture_of_the_checkpoint_with_the_lora(server: Server, dtype: str, most: float):
    name = f"styles/baked_{dtype.replace(' ', '_')}"
    shown = server.run(baking("a.safetensors", name, 0.8, 0.5, dtype=dtype))["bake"]["text"]
    assert shown == [f"checkpoints/{name}.safetensors", "84 tensors changed."]
    nodes, model, clip = lora_chain([("a.safetensors", 0.8, 0.5)])
    wanted = sampled(server, {**checkpoint(), **nodes, **picture(model, clip)})
    try:
        found = sampled(server, {**checkpoint(f"{name}.safetensors"), **picture()})
    finally:
        (server.base / "models" / shown[0]).unlink()
    effect = differs(wanted, sampled(server, {**checkpoint(), **picture()}))
    assert effect > 1 and differs(found, wanted) < most * effect


def test_a_baked_text_encoder_gives_the_picture_of_the_encoder_with_the_lora(server: Server):
    folder, prefix = server.base / "models" / "text_encoders", "cond_stage_model.transformer."
    folder.mkdir(exist_ok=True)
    state = load_file(server.checkpoints / CHECKPOINT)
    own = {key.removeprefix(prefix): value.float() for key, value in state.items() if key.startswith(prefix)}
    save_file(own, folder / "clip_l.safetensors")
    baking_it = baking("a.safetensors", "with a", 0.8, 0.7, model_file="text_encoders/clip_l.safetensors")
    shown = server.run(baking_it)["bake"]["text"]
    assert shown[:2] == ["text_encoders/with a.safetensors", "12 tensors changed."]
    assert shown[2].startswith("72 of 84 modules change weights that clip_l.safetensors doesn't have")

    def encoder(name: str) -> Prompt:
        return {**checkpoint(), "encoder": node("CLIPLoader", clip_name=name, type="stable_diffusion")}

    try:
        nodes, _, clip = lora_chain([("a.safetensors", 0.0, 0.7)], MODEL, ["encoder", 0])
        wanted = sampled(server, {**encoder("clip_l.safetensors"), **nodes, **picture(MODEL, clip)})
        found = sampled(server, {**encoder("with a.safetensors"), **picture(MODEL, ["encoder", 0])})
        without = sampled(server, {**encoder("clip_l.safetensors"), **picture(MODEL, ["encoder", 0])})
    finally:
        for file in (folder / "clip_l.safetensors", folder / "with a.safetensors"):
            file.unlink()
    effect = differs(wanted, without)
    assert effect > 1 and differs(found, wanted) < 0.05 * effect


def test_the_node_writes_what_the_core_writes(server: Server):
    path = server.base / "models" / server.run(baking("b.safetensors", "node", 0.5, 0.25))["bake"]["text"][0]
    lora = load(server.loras / "b.safetensors").with_strengths(0.5, 0.25)
    core = bake(server.checkpoints / CHECKPOINT, [lora], server.checkpoints / "core.safetensors").path
    try:
        assert path.read_bytes() == core.read_bytes()
    finally:
        path.unlink()
        core.unlink()


def test_names_that_lead_out_and_loras_for_other_models_are_refused(server: Server):
    with pytest.raises(NodeError, match="can't be used"):
        server.run(baking("a.safetensors", "../out"))
    files = sorted(server.checkpoints.rglob("*"))
    with pytest.raises(NodeError, match="strengths are all 0"):
        server.run(baking("a.safetensors", "nothing", 0.0, 0.0))
    assert sorted(server.checkpoints.rglob("*")) == files


def test_an_extracted_lora_gives_the_picture_of_the_tuned_model(server: Server):
    prompt = baking("b.safetensors", "tuned", dtype="float32")  # of rank 4, but for the rounding
    tuned = server.base / "models" / server.run(prompt)["bake"]["text"][0]
    files = {"tuned": f"checkpoints/{tuned.name}", "base": f"checkpoints/{CHECKPOINT}"}
    settings = {"rank": 6, "conv_rank": 0, "method": "fixed", "method_value": 0.9, "device": "cpu", "dtype": "float32"}
    prompt = {
        **checkpoint(),
        "extract": node("PM LoRA Extract", **files, **settings),
        "apply": node("PM LoRA Apply", model=MODEL, clip=CLIP, lora=["extract", 0]),
        **picture(["apply", 0], ["apply", 1]),
    }
    try:
        outputs = server.run(prompt)
        wanted = sampled(server, {**checkpoint(tuned.name), **picture()})
    finally:
        tuned.unlink()
    found = pixels(*server.images(outputs, "picture"))
    (text,) = outputs["extract"]["text"]
    assert text.startswith("84 modules of rank ") and "100.0 % of the difference's norm kept" in text
    assert outputs["apply"]["text"][0].startswith("84 of 84 modules applied.")
    effect = differs(wanted, sampled(server, {**checkpoint(), **picture()}))
    assert effect > 1 and differs(found, wanted) < 0.005 * effect
