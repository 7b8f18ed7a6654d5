"""ComfyUI's models and text encoders without memory for weights: state dicts with all names and shapes, on meta.

They have the width and depth of the published models, since these decide between families.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from . import audio, encoders, flux, images, shapes, unets, video, wan
from .builder import build, has_what_it_needs
from .encoders import ENCODERS, NO_LORA_ENCODERS, build_encoder
from .entry import Entry
from .no_lora_names import CONFIGS, NO_LORA_NAMES

__all__ = ["ENCODERS", "MODELS", "NO_LORA_ENCODERS", "NO_LORA_NAMES"]

GROUPS = (unets, flux, images, wan, video, audio, shapes)
# by the model's name
MODELS: dict[str, Entry] = {name: entry for group in GROUPS for name, entry in group.MODELS.items()}


@dataclass(frozen=True)
class Names:
    """The shapes in the state dict, and ComfyUI's map from LoRA names to its keys."""

    shapes: dict[str, tuple[int, ...]]
    key_map: dict[str, Any]


def model(comfy: ModuleType, name: str) -> Any | None:
    """ComfyUI's model with this name, or of a class in ``NO_LORA_NAMES``; None if this ComfyUI doesn't have it."""
    if name in NO_LORA_NAMES:
        return build(comfy, name, CONFIGS[name])
    _, kind, config = MODELS[name]
    return build(comfy, kind, config) if has_what_it_needs(comfy, name) else None


def encoder(comfy: ModuleType, name: str) -> Any | None:
    """ComfyUI's text encoder with this name; None if this ComfyUI doesn't have it."""
    return build_encoder(comfy, ENCODERS[name], encoders.NEEDS.get(name))


@cache  # all of them take ten seconds to build and most of a gigabyte to keep
def names_of_model(comfy: ModuleType, name: str) -> Names | None:
    return _names(comfy, model(comfy, name), "model_lora_keys_unet")


@cache
def names_of_encoder(comfy: ModuleType, name: str) -> Names | None:
    return _names(comfy, encoder(comfy, name), "model_lora_keys_clip")


def _names(comfy: ModuleType, made: Any | None, function: str) -> Names | None:
    if made is None:
        return None
    key_map = getattr(importlib.import_module(f"{comfy.__name__}.lora"), function)(made, {})
    return Names({key: tuple(value.shape) for key, value in made.state_dict().items()}, key_map)
