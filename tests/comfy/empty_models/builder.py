"""Builds ComfyUI's models on the meta device, where tensors have a shape but no memory."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import warnings
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .entry import Config

META = torch.device("meta")
# By image_model, the module and the dataclass of its configuration (for Lumina the model itself), and values for fields
# that have no default in some version.
PARAMETERS = {
    "flux": ("flux.model", "FluxParams"),
    "flux2": ("flux.model", "FluxParams"),
    "chroma": ("chroma.model", "ChromaParams"),
    "chroma_radiance": ("chroma_radiance.model", "ChromaRadianceParams"),
    "hunyuan_video": ("hunyuan_video.model", "HunyuanVideoParams"),
    "lumina2": ("lumina.model", "NextDiT"),
}
ADDED: Config = {"txt_ids_dims": [], "meanflow_sum": False}
# Models that use an older model's class in supported_models: the class in comfy.ldm, and a parameter that they need.
NEEDS = {
    "Ovis-Image": ("flux.model", "FluxParams", "yak_mlp"),
    "NewBie": ("lumina.model", "NextDiT", "clip_text_dim"),
    "Z-Image Omni": ("lumina.model", "NextDiT", "siglip_feat_dim"),
    "Qwen-Image Layered": ("qwen_image.model", "QwenImageTransformer2DModel", "use_additional_t_cond"),
    "LTX 2.3": ("lightricks.av_model", "LTXAVModel", "apply_gated_attention"),
    "LTX 2.5": ("lightricks.av_model", "LTXAVModel", "ff_bias"),
}


class ItemsOnMeta(TorchFunctionMode):
    """Makes ``tensor.item()`` return 1 on meta, where torch would raise: ACE-Step 1.5 reads its codebook's size."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.item and args[0].is_meta:
            return 1
        return func(*args, **(kwargs or {}))


def build(comfy: ModuleType, kind: str, config: Config) -> Any | None:
    """ComfyUI's model of a class in comfy.supported_models; None if this ComfyUI doesn't have the class."""
    models = importlib.import_module(f"{comfy.__name__}.supported_models")
    if not hasattr(models, kind):
        return None
    if config.get("image_model") in PARAMETERS:
        module, class_name = PARAMETERS[config["image_model"]]
        known = _parameters(comfy, module, class_name)
        if config["image_model"] == "lumina2" and "rope_theta" not in known:  # 0.3.60 multiplies by 4 itself
            config = config | {"ffn_dim_multiplier": None}
        config = {key: value for key, value in (ADDED | config).items() if key in known or key == "image_model"}
    made = getattr(models, kind)(config)
    made.unet_config.setdefault("dtype", torch.float32)
    with torch.no_grad(), ItemsOnMeta(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch and numpy warn about the way SD x4 upscaler copies its schedule
        return made.get_model(_state(kind), "", device=META)


def has_what_it_needs(comfy: ModuleType, name: str) -> bool:
    if name not in NEEDS:
        return True
    module, class_name, parameter = NEEDS[name]
    try:
        return parameter in _parameters(comfy, module, class_name)
    except ImportError:
        return False


def _parameters(comfy: ModuleType, module: str, class_name: str) -> set[str]:
    found = getattr(importlib.import_module(f"{comfy.__name__}.ldm.{module}"), class_name)
    if dataclasses.is_dataclass(found):
        return {field.name for field in dataclasses.fields(found)}
    return set(inspect.signature(found.__init__).parameters)


def _state(kind: str) -> dict[str, torch.Tensor]:
    """The tensors that a class reads from the checkpoint while it builds the model."""
    if kind == "Stable_Zero123":
        return {"cc_projection.weight": torch.zeros(768, 772), "cc_projection.bias": torch.zeros(768)}
    if kind not in ("StableAudio", "StableAudio3"):
        return {}
    state = {}
    for seconds in ("seconds_start", "seconds_total"):
        prefix = f"conditioner.conditioners.{seconds}.embedder.embedding."
        if kind == "StableAudio":
            state[f"{prefix}0.weights"] = torch.zeros(128)
        state[f"{prefix}1.weight"] = torch.zeros(768, 257 if kind == "StableAudio" else 256)
        state[f"{prefix}1.bias"] = torch.zeros(768)
    return state
