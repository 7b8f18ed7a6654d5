"""PM Save LoRA."""

from __future__ import annotations

import logging

from ..merge.adapters.base import Lora
from ..merge.compute.context import DTYPES
from ..merge.files import save
from ..merge.formats import embeddings
from ..merge.formats.key_styles import STYLES
from ..merge.io.paths import inside
from ..merge.merging.key_resolver import resolver_for
from ..merge.merging.name_notes import on_unknown_names, says_unknown
from ..merge.names import Style
from . import comfy_bridge
from .file_names import HELP as DATE_HELP
from .file_names import with_date
from .inputs import USE_CATEGORY, lora_input, require_lora

log = logging.getLogger(__name__)

AS_MERGED = "as merged"
AS_FIRST_INPUT = "as first input"


class SaveLora:
    DESCRIPTION = "Saves a LoRA to ComfyUI's first loras folder, with its strengths and block weights baked in."
    CATEGORY = USE_CATEGORY
    SEARCH_ALIASES = ["save merged lora", "export lora", "power merge"]
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "lora_save"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "lora": lora_input("The LoRA to save: loaded, merged or resized."),
                "file_name": (
                    "STRING",
                    {
                        "default": "merged",
                        "tooltip": f"Name of the file. May include subfolders (styles/merged). {DATE_HELP}",
                    },
                ),
                "extension": (["safetensors"], {"tooltip": "The file format."}),
            },
            "optional": {
                "save_dtype": (
                    [AS_MERGED, "float16", "bfloat16", "float32"],
                    {
                        "default": AS_MERGED,
                        "tooltip": "Precision of the saved file. float16 halves the size of a float32 LoRA.",
                    },
                ),
                "overwrite": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Replace an existing file of this name. When off, a number is appended "
                        "(merged_00002).",
                    },
                ),
                "save_format": (
                    [AS_FIRST_INPUT, *STYLES.values()],
                    {
                        "default": AS_FIRST_INPUT,
                        "tooltip": "Naming scheme of the modules in the file. as first input: each module keeps its "
                        "name from the first LoRA that has it; every ComfyUI loads these. PEFT / diffusers: for "
                        "diffusers. kohya: for sd-scripts and other user interfaces.",
                    },
                ),
            },
        }

    def lora_save(
        self,
        lora: Lora,
        file_name: str,
        extension: str,
        save_dtype: str = AS_MERGED,
        overwrite: bool = False,
        save_format: str = AS_FIRST_INPUT,
    ) -> dict:
        folder = comfy_bridge.save_folder()
        path = inside(folder, with_date(file_name), extension)
        style: Style | None = next((key for key, name in STYLES.items() if name == save_format), None)
        dtype = DTYPES.get(save_dtype)
        lora = require_lora(lora, "lora")
        written = save(lora, path, dtype, overwrite, comfy_bridge.check_interrupt, style, comfy_bridge.progress())
        log.info("Saved %s as %s", lora.name, written)
        unwritten = embeddings.unwritten(lora, style)
        # below the loras folder, as the loaders list it; the log has the whole path
        shown = [written.relative_to(folder).as_posix(), *_notes(lora), *([unwritten] if unwritten else [])]
        return {"ui": {"text": shown, "saved": [shown[0]]}}


def _notes(lora: Lora) -> list[str]:
    """Warnings about the file: the LoRA's own notes, and module names that ComfyUI may not recognise."""
    unknown = None if says_unknown(lora) else on_unknown_names(lora, resolver_for([lora]))
    if unknown:
        log.warning("%s", unknown)
    return [*lora.notes, unknown] if unknown else list(lora.notes)
