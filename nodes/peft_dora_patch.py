"""PEFT's DoRA as patches for ComfyUI's models. ComfyUI's own loader reads up and down but drops the magnitudes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from comfy.weight_adapter.base import WeightAdapterBase
from torch import Tensor

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Lora
from ..merge.formats.peft_dora import PeftDora, change
from ..merge.names import loadable
from ..merge.names.prefixes import is_text_encoder
from . import comfy_bridge

log = logging.getLogger(__name__)


class PeftDoraPatch(WeightAdapterBase):
    """The adapter that ComfyUI calls to patch a weight. ``weights``: up, down, scale, magnitude."""

    name = "dora of peft"

    # ComfyUI recreates adapters with this signature when it moves their tensors
    def __init__(self, loaded_keys: set[str], weights: tuple[Tensor, Tensor, float, Tensor]) -> None:
        self.loaded_keys = loaded_keys
        self.weights = weights  # type: ignore[assignment]

    def calculate_weight(
        self,
        weight: Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
    ) -> Tensor:
        """Adds the change to ``weight`` in place. The weight may be part of a fused one and may already be patched."""
        up, down, _, _ = self.weights
        if (up.shape[0], down.shape[1]) != (weight.shape[0], weight[0].numel()):
            log.error("The DoRA for %s doesn't match the weight's shape and is not applied.", key)
            return weight
        # names with another row order come with a function that swaps the two halves of the rows, there and back
        weight += function(strength * change(function(weight), *self.weights)).to(weight.dtype)
        return weight


def without_peft_dora(lora: Lora) -> Lora:
    """The LoRA without the modules that add_peft_dora() applies."""
    return replace(lora, modules={key: m for key, m in lora.modules.items() if not isinstance(m, PeftDora)})


def add_peft_dora(model: Any, clip: Any, lora: Lora) -> None:
    """Patches the LoRA's PEFT DoRA modules into model and clip in place: pass clones. clip may be None."""
    found = [module for module in lora.modules.values() if isinstance(module, PeftDora)]
    if not found:
        return
    targets, architecture = comfy_bridge.key_map(model, clip), architecture_of(lora)
    by_strength: dict[tuple[bool, float], dict[Any, PeftDoraPatch]] = {}
    for module in found:
        name = loadable(module.name, architecture)
        if name in targets:
            up, down = module.direction.factors()
            patch = PeftDoraPatch({name}, (up, down, module.direction.scale, module.magnitude))
            part = is_text_encoder(module.name), lora.strength_of(module)
            by_strength.setdefault(part, {})[targets[name]] = patch
    for (of_clip, strength), patches in by_strength.items():
        patched = clip if of_clip else model
        if patched is not None:
            patched.add_patches(patches, strength)
