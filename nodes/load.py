"""PM Load LoRA and PM LoRA Strength."""

from __future__ import annotations

import logging
from typing import get_args

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Lora
from ..merge.block_weights.apply import with_block_weights
from ..merge.files import load
from ..merge.formats.trainer_scale import AlphaFrom
from . import comfy_bridge, presets
from .files_read import FilesRead
from .inputs import LOAD_CATEGORY, LORA, MERGE_CATEGORY, block_weights_input, lora_input, require_lora, strength_input
from .stack import display_name

log = logging.getLogger(__name__)

_files_read = FilesRead(comfy_bridge.file_state)


class LoadLora:
    DESCRIPTION = (
        "Loads a LoRA file so that it can be merged, resized, applied or saved. "
        "Its strengths and block weights carry through everything that follows."
    )
    CATEGORY = LOAD_CATEGORY
    SEARCH_ALIASES = ["lora loader", "power merge", "lbw", "lora block weight"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The LoRA with its strengths. Connect it to a merge node, PM Resize LoRA or PM Apply LoRA.",)
    FUNCTION = "load_lora"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "lora_name": (
                    comfy_bridge.lora_names(),
                    {"tooltip": "The LoRA file, from ComfyUI's loras folders."},
                ),
                "strength_model": strength_input(
                    "Strength in the model (U-Net or transformer). Negative values subtract the LoRA's effect; 0 "
                    "leaves it out."
                ),
                "strength_clip": strength_input(
                    "Strength in the text encoder. Negative values subtract the LoRA's effect; 0 leaves it out."
                ),
                "lbw": block_weights_input(presets.offered()),
            },
            "optional": {
                "alpha_from": alpha_from_input(),
                "on": (
                    "BOOLEAN",
                    {
                        "default": True,
                        "label_on": "on",
                        "label_off": "off",
                        "tooltip": "Off leaves the LoRA out of merges and pictures, as strength 0 does for both parts.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, lora_name: str | None = None, lbw: str | None = "", **_: object) -> str:
        # the presets can be edited without touching the LoRA file; None: it comes from a link
        presets_read = presets.files() if lbw != "" else ()
        lora = _files_read.changes() if lora_name is None else comfy_bridge.file_state(lora_name)
        return str([lora, *map(comfy_bridge.state_of, presets_read)])

    def load_lora(
        self,
        lora_name: str,
        strength_model: float,
        strength_clip: float,
        lbw: str = "",
        alpha_from: AlphaFrom = "trainer",
        on: bool = True,
    ) -> tuple[Lora]:
        _files_read.note(lora_name)
        path, check = comfy_bridge.lora_path(lora_name), comfy_bridge.check_interrupt
        lora = load(path, display_name(lora_name), check, alpha_from)
        architecture = architecture_of(lora)
        kind = f"for {architecture.name}" if architecture else "for an unrecognised model"
        off = "" if on else " It is switched off and left out."
        log.info("Loaded %s: %d modules, %s.%s", lora.name, len(lora.modules), kind, off)
        strengths = (strength_model, strength_clip) if on else (0.0, 0.0)
        return (with_block_weights(lora.with_strengths(*strengths), lbw, presets.read),)


def alpha_from_input() -> tuple[list[str], dict]:
    return (
        list(get_args(AlphaFrom)),
        {
            "default": "trainer",
            "tooltip": "Where the LoRA's scale comes from if its tensors include no alpha. trainer: the "
            "file's header, or PEFT's adapter_config.json next to it. tensors: only the tensors; choose "
            "this to match pictures made with ComfyUI's own loader.",
        },
    )


class LoraStrength:
    DESCRIPTION = "Multiplies a LoRA's strengths, to reweight a merged or resized LoRA without saving it first."
    CATEGORY = MERGE_CATEGORY
    SEARCH_ALIASES = ["lora weight", "scale lora"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The same LoRA with the new strengths.",)
    FUNCTION = "scale"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "lora": lora_input("The LoRA to reweight: loaded, merged or resized."),
                "strength_model": strength_input(
                    "Multiplies the strength in the model (U-Net or transformer). -1 inverts the LoRA's effect."
                ),
                "strength_clip": strength_input(
                    "Multiplies the strength in the text encoder. -1 inverts the LoRA's effect."
                ),
            }
        }

    def scale(self, lora: Lora, strength_model: float, strength_clip: float) -> tuple[Lora]:
        return (require_lora(lora, "lora").with_strengths(strength_model, strength_clip),)
