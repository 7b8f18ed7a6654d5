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
from .inputs import CATEGORY, LORA, lora_input, require_lora, strength_input

log = logging.getLogger(__name__)


class LoadLora:
    DESCRIPTION = (
        "Loads a LoRA file as a value that can be merged, resized, applied and saved. "
        "Its strengths, and block weights if you give any, count in everything that follows."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["lora loader", "power merge", "lbw", "lora block weight"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The LoRA with its strengths. Connect it to a merge, to PM Resize LoRA or to PM Apply LoRA.",)
    FUNCTION = "load_lora"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "lora_name": (
                    comfy_bridge.lora_names(),
                    {"tooltip": "The file, from ComfyUI's loras folders."},
                ),
                "strength_model": strength_input(
                    "How much the LoRA counts in the model (U-Net or transformer). Negative subtracts, 0 leaves it out."
                ),
                "strength_clip": strength_input(
                    "How much the LoRA counts in the text encoder. Negative subtracts, 0 leaves it out."
                ),
                "lbw": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": False,
                        "presets": _presets(),
                        "tooltip": "Block weights; empty counts every block as 1. A list that starts with the base "
                        "(1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1), the name of a preset (SD-OUT), or blocks by name "
                        "(%default=1,in1-3=0.5,mid=0). A block of weight 0 is taken out.",
                    },
                ),
            },
            "optional": {
                "alpha_from": (
                    list(get_args(AlphaFrom)),
                    {
                        "default": "trainer",
                        "tooltip": "Where the scale comes from if the tensors have no alpha. trainer: from the file's "
                        "header, or from PEFT's adapter_config.json next to it. tensors: from the tensors alone, as in "
                        "ComfyUI's own loader.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, lora_name: str, lbw: str = "", **_: object) -> str:
        # PEFT's configuration, or a preset's weights, may have been edited too
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
        kind = f"for {architecture.name}" if architecture else "of a kind that its names don't tell"
        log.info("Loaded %s: %d modules, %s.", lora.name, len(lora.modules), kind)
        return (with_block_weights(lora.with_strengths(strength_model, strength_clip), lbw, _read_presets),)


def _preset_files() -> tuple[Path, ...]:
    return preset_files(comfy_bridge.user_folder() / USER_PRESETS_NAME)


def _read_presets() -> dict[str, str]:
    return read_presets(*_preset_files())


@cache
def _tell_of_the_new_place() -> None:
    if PACK_USER_PRESETS.exists():
        log.warning(
            "%s would be lost when the pack is installed anew. Move it to %s.",
            PACK_USER_PRESETS,
            comfy_bridge.user_folder(),
        )


def _presets() -> dict[str, str]:
    """The presets that the page offers beside lbw; none, and a line in the log, where their file is damaged."""
    _tell_of_the_new_place()
    try:
        return _read_presets()
    except LoraError as error:
        log.warning("%s", error)
        return {}


def display_name(lora_name: str) -> str:
    """What messages call a file of the loras list: its place in the folder, without the ending, with slashes."""
    return PureWindowsPath(lora_name).with_suffix("").as_posix()


class LoraStrength:
    DESCRIPTION = "Multiplies a LoRA's strengths: to weight a merge or a resized LoRA again without a file in between."
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["lora weight", "scale lora"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The same LoRA at the new strengths.",)
    FUNCTION = "scale"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "lora": lora_input("The LoRA to weight: loaded, merged or resized."),
                "strength_model": strength_input("Multiplies the strength for the model (U-Net or transformer)."),
                "strength_clip": strength_input("Multiplies the strength for the text encoder."),
            }
        }

    def scale(self, lora: Lora, strength_model: float, strength_clip: float) -> tuple[Lora]:
        return (require_lora(lora, "lora").with_strengths(strength_model, strength_clip),)
