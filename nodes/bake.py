"""PM Bake LoRA."""

from __future__ import annotations

import logging

from ..merge.adapters.base import Lora
from ..merge.compute.context import DTYPES
from ..merge.errors import LoraError
from ..merge.io.paths import inside
from ..merge.models.bake import bake
from . import comfy_bridge
from .file_names import HELP as DATE_HELP
from .file_names import with_date
from .inputs import USE_CATEGORY, lora_input, require_lora, strength_input
from .model_files import folder_of, model_names, model_path, models_state

log = logging.getLogger(__name__)

AS_THE_FILE = "as the file"


class BakeLora:
    DESCRIPTION = (
        "Writes a copy of a checkpoint, diffusion model or text encoder with a LoRA added to its weights. The copy "
        "gives the same picture without the LoRA, and takes the memory of one tensor to make."
    )
    CATEGORY = USE_CATEGORY
    SEARCH_ALIASES = ["bake lora", "merge lora into checkpoint", "lora to checkpoint", "save checkpoint", "power merge"]
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "bake"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "lora": lora_input(
                    "The LoRA to add: loaded, merged or resized. Its strengths and block weights count."
                ),
                "model_file": (
                    model_names(),
                    {
                        "tooltip": "The checkpoint, diffusion model or text encoder to copy, as .safetensors. It isn't "
                        "loaded into memory and stays as it is.",
                    },
                ),
                "strength_model": strength_input("Multiplies the LoRA's strength in the model."),
                "strength_clip": strength_input("Multiplies the LoRA's strength in text encoders."),
                "file_name": (
                    "STRING",
                    {
                        "default": "baked",
                        "tooltip": "Name of the new file, in the folder of its kind. May include subfolders "
                        f"(styles/baked). {DATE_HELP}",
                    },
                ),
                "dtype": (
                    [AS_THE_FILE, *DTYPES],
                    {
                        "default": AS_THE_FILE,
                        "tooltip": "Precision of the weights of the diffusion model and the text encoders. as the "
                        "file: each tensor keeps its own. The VAE and float8 weights always keep theirs.",
                    },
                ),
            },
            "optional": {
                "overwrite": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Replace an existing file of this name. When off, a number is appended "
                        "(baked_00002).",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, model_file: str | None = None, **inputs: object) -> str:
        return models_state(model_file)

    def bake(
        self,
        lora: Lora,
        model_file: str,
        strength_model: float,
        strength_clip: float,
        file_name: str,
        dtype: str,
        overwrite: bool = False,
    ) -> dict:
        lora = require_lora(lora, "lora").with_strengths(strength_model, strength_clip)
        kind, folder = folder_of(model_file)
        path = inside(folder, with_date(file_name), "safetensors")
        model = model_path(model_file)
        if overwrite and path.exists() and path.samefile(model):  # and each run of the workflow would add it again
            raise LoraError(
                f"{path.name} is the model that the LoRA is added to, and can't be overwritten with the result: "
                "another run would add the LoRA a second time. Choose another file_name."
            )
        check, progress = comfy_bridge.check_interrupt, comfy_bridge.progress()
        baked = bake(model, [lora], path, DTYPES.get(dtype), overwrite, check, progress)
        log.info("Baked %s into %s", lora.name, baked.path)
        for note in baked.notes:
            log.warning("%s", note)
        # below ComfyUI's folder, as the loaders list it; the log has the whole path
        shown = f"{kind}/{baked.path.relative_to(folder).as_posix()}"
        text = [shown, f"{baked.changed} tensors changed.", *baked.notes]
        return {"ui": {"text": text, "saved_model": [shown]}}
