"""Input specifications shared by several nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.compute.context import DTYPES
from ..merge.errors import LoraError
from ..merge.merging.resize import METHODS
from ..merge.methods.registry import mode_tooltip, using_density, using_seed

CATEGORY = "LoRA Power-Merger"
LOAD_CATEGORY = f"{CATEGORY}/Load"
MERGE_CATEGORY = f"{CATEGORY}/Merge"
USE_CATEGORY = f"{CATEGORY}/Apply and save"
INSPECT_CATEGORY = f"{CATEGORY}/Inspect"
XY_CATEGORY = f"{CATEGORY}/XY"
LORA = "LoRA"
MAX_SEED = 2**64 - 1
DENSITY = 0.6  # at 1, the modes that have a density would drop nothing

_LORA_NAME = re.compile(r"lora([1-9]\d*)")
# How far GrowingInputs iterates. ComfyUI validates those inputs; links to later ones reach the node unvalidated.
VALIDATED_LORAS = 1000


class GrowingInputs(dict):
    """Optional inputs with an unlimited series lora1, lora2, ..., of which /object_info lists only lora1.

    ComfyUI builds /object_info from keys() and items(), but validates a prompt by iterating over the dictionary and
    looking names up in it. So links to lora2, lora3, ... are checked before the prompt runs, like declared inputs.
    """

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or _is_lora_name(name)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__("lora1" if not super().__contains__(name) and _is_lora_name(name) else name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __iter__(self) -> Iterator[str]:
        yield from self.keys()
        yield from (f"lora{n}" for n in range(2, VALIDATED_LORAS + 1))


def _is_lora_name(name: object) -> bool:
    return isinstance(name, str) and _LORA_NAME.fullmatch(name) is not None


def growing_loras(inputs: Mapping[str, object]) -> list[Lora]:
    """The LoRAs among a node's keyword arguments, in the order of their numbers.

    Raises LoraError if something else is connected.
    """
    numbered = sorted((int(name[4:]), name) for name in inputs if _is_lora_name(name) and inputs[name] is not None)
    return [require_lora(inputs[name], name) for _, name in numbered]


def require_lora(value: object, name: str) -> Lora:
    """The value of input ``name``. Raises LoraError if it isn't a LoRA of this pack."""
    if not isinstance(value, Lora):
        raise LoraError(
            f"{name}: expected a LoRA from this pack, got {type(value).__name__}. Load LoRA files with PM Load LoRA."
        )
    return value


def lora_input(tooltip: str) -> tuple[str, dict]:
    return (LORA, {"tooltip": tooltip})


def growing_lora_input(
    tooltip: str = "A LoRA to merge. Connecting it adds an input for the next one.",
) -> tuple[str, dict]:
    # "growing" tells the front end to add lora2, lora3, ... as inputs get connected
    return (LORA, {"tooltip": tooltip, "growing": True})


def strength_input(tooltip: str) -> tuple[str, dict]:
    return ("FLOAT", {"default": 1.0, "min": -20.0, "max": 20.0, "step": 0.01, "tooltip": tooltip})


def block_weights_input(presets: Mapping[str, str]) -> tuple[str, dict]:
    return (
        "STRING",
        {
            "default": "",
            "multiline": False,
            "placeholder": "1 for every block",
            "presets": presets,
            "tooltip": "Block weights, to weaken or remove parts of the LoRA; empty means 1 for every "
            "block. Accepts a list that starts with the base weight (1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1), "
            "the name of a preset (SD-OUT), or named blocks (%default=1,in1-3=0.5,mid=0). A block with "
            "weight 0 is removed.",
        },
    )


def mode_input(modes: Sequence[str], default: str) -> tuple[Sequence[str], dict]:
    """The merge mode, with the default at the top of the list: workflows store the name, so the order is free.

    ``uses`` maps widgets to the modes that use them; the front end greys them out in other modes.
    """
    modes = (default, *(mode for mode in modes if mode != default))
    uses = {"density": using_density(modes), "seed": using_seed(modes)}
    return (modes, {"default": default, "tooltip": mode_tooltip(modes), "uses": uses})


def density_input() -> tuple[str, dict]:
    return (
        "FLOAT",
        {
            "default": DENSITY,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "Share of each LoRA's values to keep, in the modes that drop some. Lower values reduce "
            "interference between LoRAs, and 0.5 to 0.8 is a good start. 1 drops nothing; 0 would keep nothing and is "
            "refused. Greyed out in modes that ignore it.",
        },
    )


def rank_input(default: int, least: int, tooltip: str) -> tuple[str, dict]:
    return ("INT", {"default": default, "min": least, "max": 4096, "step": 1, "tooltip": tooltip})


def rank_method_inputs() -> dict[str, tuple[object, dict]]:
    """How the rank of each module is chosen, and the number that the method takes."""
    return {
        "method": (
            list(METHODS),
            {
                "default": "fixed",
                "uses": {"method_value": [name for name in METHODS if name != "fixed"]},
                "tooltip": ". ".join(f"{name}: {what}" for name, what in METHODS.items()) + ".",
            },
        ),
        "method_value": (
            "FLOAT",
            {
                "default": 0.9,
                "min": 0.0,
                "max": 1000.0,
                "step": 0.01,
                "tooltip": "Threshold of the sv_ methods: a ratio of 1 or more for sv_ratio (usually 2 to 20), "
                "a share between 0 and 1 for sv_cumulative and sv_fro (0.9 keeps most). fixed ignores it.",
            },
        ),
    }


def device_input(devices: list[str]) -> tuple[list[str], dict]:
    return (
        devices,
        {
            "default": "auto",
            "tooltip": "Where to compute. auto uses ComfyUI's own device. On a machine without CUDA, cuda falls back "
            "to the CPU.",
        },
    )


def dtype_input() -> tuple[tuple[str, ...], dict]:
    return (
        tuple(DTYPES),
        {
            "default": "float32",
            "tooltip": "Precision of the result. The computation always runs in float32 or better; "
            "float16 and bfloat16 halve the file size.",
        },
    )


def seed_input() -> tuple[str, dict]:
    return (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": MAX_SEED,
            # otherwise ComfyUI adds a widget that changes the seed, and so the merge, after each run
            "control_after_generate": False,
            "tooltip": "Chooses which values the dare and della modes drop. The same seed gives the same merge on "
            "every machine; other modes ignore it.",
        },
    )


def base_model_inputs() -> dict[str, tuple[str, dict]]:
    """The optional model and clip inputs of nodes that compute with LoRAs."""
    tooltip = (
        "The {} the LoRAs are for. Connect it for DoRA, GLoRA, OFT and BOFT, whose change depends on its weights, and "
        "for LoRAs whose module names are unknown or fit several model families. Others don't need it."
    )
    return {
        "model": ("MODEL", {"tooltip": tooltip.format("model")}),
        "clip": ("CLIP", {"tooltip": tooltip.format("text encoder")}),
    }
