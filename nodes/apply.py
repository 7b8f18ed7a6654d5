"""PM Apply LoRA."""

from __future__ import annotations

import logging
from typing import Any

import comfy.sd

from ..merge.compute import Progress, unwatched
from ..merge.formats import file_names, to_state_dict
from ..merge.lora import Lora
from ..merge.names.prefixes import is_text_encoder
from . import comfy_bridge
from .inputs import CATEGORY, lora_input, require_lora, strength_input

log = logging.getLogger(__name__)


class ApplyLora:
    DESCRIPTION = "Applies a loaded, merged or resized LoRA to a model, as ComfyUI's own LoRA loader applies a file."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["apply lora", "use merged lora", "power merge"]
    RETURN_TYPES = ("MODEL", "CLIP")
    OUTPUT_TOOLTIPS = (
        "The model with the LoRA.",
        "The text encoder with the LoRA; nothing where none is connected.",
    )
    FUNCTION = "apply_merged_lora"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model to apply the LoRA to."}),
                "lora": lora_input("The LoRA: loaded, merged or resized."),
            },
            "optional": {
                "clip": (
                    "CLIP",
                    {"tooltip": "The text encoder. Leave it free where the LoRA has no text encoder part."},
                ),
                "strength_model": strength_input("Multiplies the LoRA's strength for the model."),
                "strength_clip": strength_input("Multiplies the LoRA's strength for the text encoder."),
            },
        }

    def apply_merged_lora(
        self,
        model: Any,
        lora: Lora,
        clip: Any = None,
        strength_model: float = 1.0,
        strength_clip: float = 1.0,
    ) -> tuple[Any, Any]:
        lora = require_lora(lora, "lora").with_strengths(strength_model, strength_clip)
        return apply_lora(model, clip, lora, comfy_bridge.progress())


def apply_lora(model: Any, clip: Any, lora: Lora, progress: Progress = unwatched) -> tuple[Any, Any]:
    """Clones of model and clip (may be None) with the LoRA as patches, through ComfyUI's own loading."""
    if not lora.modules or (lora.strength_model == 0 and lora.strength_clip == 0):
        return model, clip
    _report(model, clip, lora)
    tensors = to_state_dict(lora, check=comfy_bridge.check_interrupt, progress=progress)
    return comfy.sd.load_lora_for_models(model, clip, tensors, lora.strength_model, lora.strength_clip)


def _report(model: Any, clip: Any, lora: Lora) -> None:
    """Say in the log what part of the LoRA finds its weight: ComfyUI passes over the rest."""
    mapped = comfy_bridge.key_map(model, clip)
    fits = [name in mapped for name in file_names(lora).values()]
    if not any(fits):
        log.warning(
            "None of the %d modules of %s fits this model: it is for another kind of model.",
            len(fits),
            lora.name,
        )
        return
    log.info("%s: %d of %d modules applied.", lora.name, sum(fits), len(fits))
    if clip is None and any(is_text_encoder(name) for name in lora.modules):
        log.info("%s has a text encoder part; it is not applied, since no clip is connected.", lora.name)
