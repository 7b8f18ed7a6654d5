"""Strengths of 0, strengths that are no numbers, LoRAs without modules, and names with dates, in a real ComfyUI."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lora_pack.tools.comfy_server import NodeError, Prompt, Server
from lora_pack.tools.make_lora import small_modules, write_lora
from lora_pack.tools.workflows import CHECKPOINT, CLIP, MODEL, checkpoint, node, picture
from safetensors.torch import load_file, save_file

CONCAT = {"mode": "concat", "density": 1.0, "device": "cpu", "dtype": "float32"}
PATCH, BESIDE = "patch weights", "beside the weights"


def loader(name: str = "a.safetensors", lbw: str = "") -> Prompt:
    return {"lora": node("PM LoRA Loader", lora_name=name, strength_model=1.0, strength_clip=1.0, lbw=lbw)}


def given(*rows: Any) -> dict[str, Any]:
    return {"__value__": list(rows)}


def saved(name: str) -> Prompt:
    return {"save": node("PM LoRA Save", lora=["lora", 0], file_name=name, extension="safetensors")}


@pytest.mark.parametrize("how", [PATCH, BESIDE])
@pytest.mark.parametrize(
    ("model", "clip", "expected"),
    [
        (1.0, 0.0, "72 of 72 modules applied. 12 text encoder modules left out at strength 0."),
        (0.0, 1.0, "12 of 12 modules applied. 72 model modules left out at strength 0."),
        (0.0, 0.0, "Nothing applied: the LoRA is empty or at strength 0."),
    ],
)
def test_apply_does_not_count_what_is_at_strength_0(server: Server, how: str, model: float, clip: float, expected: str):
    inputs = {"model": MODEL, "clip": CLIP, "lora": ["lora", 0], "strength_model": model, "strength_clip": clip}
    applied = {"apply": node("PM LoRA Apply", **inputs, how=how)}
    prompt = checkpoint() | loader() | applied | picture(["apply", 0], ["apply", 1], prefix="zero", steps=1)
    assert server.run(prompt)["apply"]["text"][0].splitlines()[0] == expected


def test_apply_says_that_a_lora_of_the_model_alone_does_nothing_at_model_strength_0(server: Server):
    modules = [module for module in small_modules() if not module[0].startswith("lora_te")]
    write_lora(server.loras / "model_alone.safetensors", rank=2, seed=3, modules=modules)
    inputs = {"model": MODEL, "clip": CLIP, "lora": ["lora", 0], "strength_model": 0.0, "strength_clip": 1.0}
    applied = {"apply": node("PM LoRA Apply", **inputs)}
    prompt = checkpoint() | loader("model_alone.safetensors") | applied
    outputs = server.run(prompt | picture(["apply", 0], ["apply", 1], prefix="zero", steps=1))
    assert outputs["apply"]["text"] == ["Nothing applied: the LoRA is empty or at strength 0."]


def test_a_stack_applies_without_clip_although_a_text_encoders_dora_needs_one(server: Server):
    path = server.loras / "text_dora.safetensors"
    write_lora(path, rank=2, seed=4, modules=small_modules())
    tensors = load_file(path)
    ups = {key: up for key, up in tensors.items() if key.startswith("lora_te") and key.endswith(".lora_up.weight")}
    magnitudes = {key.replace("lora_up.weight", "dora_scale"): torch.ones(len(up), 1) for key, up in ups.items()}
    save_file(tensors | magnitudes, path)
    stack = given([path.name, 1.0, 1.0], ["b.safetensors", 1.0, 1.0])
    applied = {"apply": node("PM LoRA Apply", model=MODEL, lora_stack=stack)}
    (text,) = server.run(checkpoint() | applied | picture(["apply", 0], CLIP, prefix="dora", steps=1))["apply"]["text"]
    assert text.startswith("72 of 72 modules applied. 12 text encoder modules not applied because no clip")
    assert "text_dora: 12 text encoder modules not applied because no clip is connected." in text


@pytest.mark.parametrize("strength", ["nan", "inf", "-inf", "x"])
def test_a_stack_with_a_strength_that_is_no_number_is_refused(server: Server, strength: str):
    stack = given(["b.safetensors", 1.0, 1.0], ["a.safetensors", 1.0, strength])
    nodes: list[Prompt] = [
        {"tested": node("PM LoRA Inspect", lora_stack=stack)},
        checkpoint()
        | {"tested": node("PM LoRA Apply", model=MODEL, clip=CLIP, lora_stack=stack)}
        | picture(["tested", 0], ["tested", 1], prefix="nan"),
    ]
    for prompt in nodes:
        with pytest.raises(NodeError, match=r"lora_stack, entry 2 \(a.safetensors\): the strengths 1.0 and"):
            server.run(prompt)


def test_inspect_shows_loras_whose_modules_block_weights_removed(server: Server):
    empty = loader(lbw="%default=0")
    for more in ({}, {"lora2": ["other", 0]}):
        other = {"other": loader("b.safetensors")["lora"]} if more else {}
        prompt = empty | other | {"inspect": node("PM LoRA Inspect", lora1=["lora", 0], **more)}
        assert server.run(prompt)["inspect"]["images"]


def test_names_of_files_take_comfyuis_placeholders_for_the_date(server: Server):
    before = time.localtime()
    path, *_ = server.run(loader() | saved("dated/%year%-%month%/x %date:yyyy% 50%"))["save"]["text"]
    assert path in (
        f"dated/{at.tm_year}-{at.tm_mon:02}/x {at.tm_year} 50%.safetensors" for at in (before, time.localtime())
    )
    assert (server.loras / path).is_file()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("%year%%month%%day%_%hour%.%minute%.%second%", "20260305_07.08.09"),
        ("%date:yyyy-MM-dd hh-mm-ss%", "2026-03-05 07-08-09"),
        ("%date:yy.M.d h.m.s%", "26.3.5 7.8.9"),
        ("100% %Year% %sampler.seed% %date% %", "100% %Year% %sampler.seed% %date% %"),
    ],
)
def test_placeholders_are_those_of_comfyuis_nodes(comfy: ModuleType, name: str, expected: str):
    from lora_pack.nodes.file_names import with_date

    assert with_date(name, time.struct_time((2026, 3, 5, 7, 8, 9, 3, 64, 0))) == expected


def test_a_model_is_not_baked_over_itself(server: Server):
    settings = {"strength_model": 1.0, "strength_clip": 1.0, "dtype": "as the file", "overwrite": True}
    baked = node("PM LoRA Bake", lora=["lora", 0], model_file=f"checkpoints/{CHECKPOINT}", **settings)
    path = server.checkpoints / CHECKPOINT
    before = path.stat()
    for name in (CHECKPOINT, Path(CHECKPOINT).stem):
        baked["inputs"]["file_name"] = name
        with pytest.raises(NodeError, match="another run would add the LoRA a second time"):
            server.run(loader() | {"bake": baked})
    assert path.stat() == before


def test_rows_with_another_systems_slashes_reach_other_packs_as_comfyui_lists_the_file(
    comfy: ModuleType, monkeypatch: Any
):
    from lora_pack.nodes import comfy_bridge
    from lora_pack.nodes.power_loader import PowerLoader

    monkeypatch.setattr(comfy_bridge, "lora_names", lambda: ["styles/ink.safetensors"])
    (stack,) = PowerLoader().stack(json.dumps([{"lora": "styles\\ink.safetensors"}]))
    assert stack == [("styles/ink.safetensors", 1.0, 1.0)]


@pytest.mark.parametrize("how", [PATCH, BESIDE])
def test_apply_without_a_model_leaves_it_out(comfy: ModuleType, tmp_path: Path, how: str):
    from lora_pack.merge.files import load
    from lora_pack.nodes.apply import ApplyLora

    write_lora(tmp_path / "a.safetensors", rank=2, seed=1, modules=small_modules()[:3])
    applied = ApplyLora().apply_merged_lora(None, load(tmp_path / "a.safetensors"), how=how)
    assert applied["result"] == (None, None) and "0 of 3 modules applied" in applied["ui"]["text"][0]
