"""The keys of checkpoints: those that ComfyUI writes are found again as the weights that it has them from."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch
from lora_pack.merge.names import ARCHITECTURES, architecture_of_file, parts_of_file, resolve
from lora_pack.tests.comfy import empty_models
from lora_pack.tests.comfy.test_key_maps import RENAMED

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
# ComfyUI's class of a model whose text encoders have other names in a checkpoint
WITH_ENCODERS = {"SD 1.5": "SD15", "SD 2": "SD20", "SDXL": "SDXL", "SDXL refiner": "SDXLRefiner"}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", empty_models.MODELS)
def test_every_weight_of_a_model_is_found_with_and_without_a_prefix(comfy: ModuleType, name: str, prefix: str):
    names = empty_models.names_of_model(comfy, name)
    if names is None:
        pytest.skip(f"This ComfyUI has no {name}.")
    own = {key.removeprefix("diffusion_model."): shape for key, shape in names.shapes.items()}
    file = {prefix + path: shape for path, shape in own.items()}
    architecture = architecture_of_file(file)
    assert architecture is BY_NAME[empty_models.MODELS[name][0]]
    parts = parts_of_file(file, architecture)
    for path in own:
        (part,) = parts[prefix + path]
        stem, _, last = path.rpartition(".")
        if last in ("weight", "bias") and not RENAMED.search(stem):
            assert (part.name, part.parameter) == (f"diffusion_model.{stem}", last)
            weight = resolve(part.name, architecture)
            assert weight.weight == "model:" + stem.replace(".", "_") and weight.is_whole


@pytest.mark.parametrize("name", WITH_ENCODERS)
def test_text_encoders_are_found_in_a_checkpoint_that_comfyui_saved(comfy: ModuleType, name: str):
    names = empty_models.names_of_encoder(comfy, name)
    assert names is not None
    architecture = BY_NAME[empty_models.ENCODERS[name][0]]
    own = [key for key in names.shapes if "logit_scale" not in key and "position_ids" not in key]
    values = {key: torch.zeros((1, 1) if key.endswith("weight") else (1,)) for key in own}
    saving = getattr(importlib.import_module("comfy.supported_models"), WITH_ENCODERS[name])
    saved = saving.process_clip_state_dict_for_saving(None, dict(values))
    unet = {f"model.diffusion_model.input_blocks.{n}.0.in_layers.0.weight": (1,) for n in range(10)}
    parts = parts_of_file([*saved, *unet], architecture)
    found = {f"{part.name}.{part.parameter}" for key in saved for part in parts.get(key, ())}
    # ComfyUI doesn't save CLIP-L's projection, which the models don't use, and adds SDXL's position_ids
    expected = {f"text_encoders.{key}" for key in own if key != "clip_l.transformer.text_projection.weight"}
    assert expected == {name for name in found if "position_ids" not in name}
