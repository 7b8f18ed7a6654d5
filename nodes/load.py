"""PM Load LoRA and PM LoRA Strength."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import get_args

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Lora
from ..merge.block_weights.apply import with_block_weights
from ..merge.block_weights.presets import PACK_USER_PRESETS, USER_PRESETS_NAME, preset_files, read_presets
from ..merge.errors import LoraError
from ..merge.files import load
from ..merge.formats.trainer_scale import AlphaFrom
from . import comfy_bridge
from .inputs import LOAD_CATEGORY, LORA, MERGE_CATEGORY, lora_input, require_lora, strength_input

log = logging.getLogger(__name__)


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
                "lbw": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": False,
                        "presets": _presets(),
                        "tooltip": "Block weights, to weaken or remove parts of the LoRA; empty means 1 for every "
                        "block. Accepts a list that starts with the base weight (1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1), "
                        "the name of a preset (SD-OUT), or named blocks (%default=1,in1-3=0.5,mid=0). A block with "
                        "weight 0 is removed.",
                    },
                ),
            },
            "optional": {
                "alpha_from": (
                    list(get_args(AlphaFrom)),
                    {
                        "default": "trainer",
                        "tooltip": "Where the LoRA's scale comes from if its tensors include no alpha. trainer: the "
                        "file's header, or PEFT's adapter_config.json next to it. tensors: only the tensors; choose "
                        "this to match pictures made with ComfyUI's own loader.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, lora_name: str, lbw: str = "", **_: object) -> str:
        # PEFT's configuration and the presets can be edited without touching the LoRA file
        files = [*comfy_bridge.read_with(comfy_bridge.lora_path(lora_name)), *(_preset_files() if lbw else [])]
        return " ".join("{}-{}".format(*comfy_bridge.state_of(file)) for file in files)

    def load_lora(
        self,
        lora_name: str,
        strength_model: float,
        strength_clip: float,
        lbw: str = "",
        alpha_from: AlphaFrom = "trainer",
    ) -> tuple[Lora]:
        path, check = comfy_bridge.lora_path(lora_name), comfy_bridge.check_interrupt
        lora = load(path, display_name(lora_name), check, alpha_from)
        architecture = architecture_of(lora)
        kind = f"for {architecture.name}" if architecture else "for an unrecognised model"
        log.info("Loaded %s: %d modules, %s.", lora.name, len(lora.modules), kind)
        return (with_block_weights(lora.with_strengths(strength_model, strength_clip), lbw, _read_presets),)


def _preset_files() -> tuple[Path, ...]:
    return preset_files(comfy_bridge.user_folder() / USER_PRESETS_NAME)


def _read_presets() -> dict[str, str]:
    return read_presets(*_preset_files())


@cache
def _warn_about_presets_in_the_pack() -> None:
    if PACK_USER_PRESETS.exists():
        log.warning(
            "%s will be lost if the pack is reinstalled. Move it to %s.",
            PACK_USER_PRESETS,
            comfy_bridge.user_folder(),
        )


def _presets() -> dict[str, str]:
    """The presets that the front end offers next to lbw. If their file is invalid: none, and a warning in the log."""
    _warn_about_presets_in_the_pack()
    try:
        return _read_presets()
    except LoraError as error:
        log.warning("%s", error)
        return {}


def display_name(lora_name: str) -> str:
    """How messages refer to a LoRA file: its path in the loras folder with forward slashes and without extension."""
    return PureWindowsPath(lora_name).with_suffix("").as_posix()


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
