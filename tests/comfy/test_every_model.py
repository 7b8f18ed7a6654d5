"""Compares empty_models with ComfyUI's own lists, so that no model or text encoder that it loads is missing."""

from __future__ import annotations

import ast
import importlib
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lora_pack.tests.comfy import empty_models
from lora_pack.tests.comfy.empty_models import ENCODERS, MODELS, NO_LORA_ENCODERS, NO_LORA_NAMES
from torch import Tensor

PREFIX = "diffusion_model."
# Settings that ComfyUI reads from the checkpoint's metadata, because they can't be inferred from names and shapes.
IN_METADATA = {"Wan Animate 2": "model_type", "Wan causal": "causal_ar", "Wan FlowRVS": "model_type"}
# ComfyUI recognises PixelDiT by the names in its checkpoints, which differ from those in its model.
RENAMED_WHEN_LOADED = ("PixelDiT",)
# comfy.sd.TEModel's entries for the text generation models in NO_LORA_ENCODERS
WRITERS = ("QWEN35_", "GEMMA_4_E", "GEMMA_4_31B")


@cache
def encoder_factories(comfy: ModuleType) -> set[str]:
    """The classes and functions that ComfyUI creates text encoders with, such as ``text_encoders.flux.flux_clip``."""
    found = set()
    for name in ("comfy.sd", "comfy.supported_models"):
        source = Path(str(importlib.import_module(name).__file__)).read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "clip_target.clip":
                made = node.value
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ClipTarget"):
                made = node.args[1]
            else:
                continue
            found.add(ast.unparse(made.func if isinstance(made, ast.Call) else made).removeprefix("comfy."))
    return found


def on_meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def test_every_model_class_of_comfyui_is_in_one_table(comfy: ModuleType):
    from comfy.supported_models import models

    ours = {kind for _, kind, _ in MODELS.values()}
    assert {kind.__name__ for kind in models} - ours - NO_LORA_NAMES.keys() == set()
    assert ours & NO_LORA_NAMES.keys() == set()


@pytest.mark.parametrize("name", MODELS)
def test_comfyui_detects_the_class_of_each_model(comfy: ModuleType, name: str):
    from comfy.model_detection import model_config_from_unet

    _, kind, config = MODELS[name]
    names = empty_models.names_of_model(comfy, name)
    if names is None:
        pytest.skip(f"This ComfyUI has no {name}.")
    if name in RENAMED_WHEN_LOADED:
        assert len(names.key_map) > 450
        return
    metadata = {key: config[key] for key in (IN_METADATA.get(name),) if key}
    metadata = {"config": json.dumps({"transformer": metadata})}
    assert type(model_config_from_unet(on_meta(names.shapes), PREFIX, metadata=metadata)).__name__ == kind


@pytest.mark.parametrize("kind", NO_LORA_NAMES)
def test_comfyui_maps_only_own_names_of_models_without_loras(comfy: ModuleType, kind: str):
    names = empty_models.names_of_model(comfy, kind)
    if names is None:
        pytest.skip(f"This ComfyUI has no {kind}.")
    assert len(names.key_map) > 450
    for name, key in names.key_map.items():
        path = key.removeprefix(PREFIX).removesuffix(".weight")
        assert name in (PREFIX + path, "lora_unet_" + path.replace(".", "_"))


def test_every_text_encoder_of_comfyui_is_in_one_table(comfy: ModuleType):
    ours = {f"{module}.{factory}" for _, module, factory, _ in ENCODERS.values()}
    found = encoder_factories(comfy)
    assert len(found) > 20
    assert found - ours - NO_LORA_ENCODERS.keys() == set()
    assert ours & NO_LORA_ENCODERS.keys() == set()


def test_every_text_encoder_that_comfyui_detects_is_built(comfy: ModuleType):
    from comfy.sd import TEModel, detect_te_model

    found = set()
    for name in ENCODERS:
        names = empty_models.names_of_encoder(comfy, name)
        parts: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for key, shape in names.shapes.items() if names is not None else ():
            part, _, path = key.rpartition("transformer.")
            parts[part][path] = shape
        for state in map(on_meta, parts.values()):
            found.add(detect_te_model(state))
            found.add(detect_te_model({f"model.{key}": value for key, value in state.items()}))  # Qwen3-VL's files
    assert {kind.name for kind in set(TEModel) - found if not kind.name.startswith(WRITERS)} == set()


@pytest.mark.parametrize("name", ENCODERS)
def test_text_encoders_have_all_their_weights(comfy: ModuleType, name: str):
    _, module, factory, _ = ENCODERS[name]
    names = empty_models.names_of_encoder(comfy, name)
    if names is None:
        assert f"{module}.{factory}" not in encoder_factories(comfy) or name in empty_models.encoders.NEEDS
        pytest.skip(f"This ComfyUI has no text encoder of {name}.")
    assert len(names.key_map) > 90
    assert set(names.key_map.values()) <= names.shapes.keys()
    layers = {key.removesuffix(".bias") for key in names.shapes if key.endswith(".bias")}
    assert [layer for layer in layers if f"{layer}.weight" not in names.shapes] == []
