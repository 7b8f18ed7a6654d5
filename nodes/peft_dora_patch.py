"""PEFT's DoRA as patches of ComfyUI's models: its own loader reads the two halves and drops the magnitudes."""

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
    """What ComfyUI calls when it patches a weight. ``weights`` are up, down, scale and magnitude (peft_dora.change)."""

    name = "dora of peft"

    # ComfyUI makes copies of an adapter with its tensors in other memory
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
        """Adds the change to ``weight``, in place. It may be a part of a fused weight, and already be patched."""
        up, down, _, _ = self.weights
        if (up.shape[0], down.shape[1]) != (weight.shape[0], weight[0].numel()):
            log.error("The DoRA for %s is for a weight of another shape: it is not applied.", key)
            return weight
        # the function of a name whose rows stand in another order swaps their halves, and back
        weight += function(strength * change(function(weight), *self.weights)).to(weight.dtype)
        return weight


def without_peft_dora(lora: Lora) -> Lora:
    return replace(lora, modules={key: m for key, m in lora.modules.items() if not isinstance(m, PeftDora)})


def with_patches(model: Any, clip: Any, lora: Lora) -> None:
    """Adds a LoRA's modules of this kind to model and clip (may be None), which are clones already."""
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
            kind = is_text_encoder(module.name), lora.strength_of(module)
            by_strength.setdefault(kind, {})[targets[name]] = patch
    for (of_clip, strength), patches in by_strength.items():
        patched = clip if of_clip else model
        if patched is not None:
            patched.add_patches(patches, strength)
