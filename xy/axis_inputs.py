"""The inputs of the XY nodes that merge two LoRAs."""

from __future__ import annotations

from typing import Any

from ..nodes import comfy_bridge
from ..nodes.inputs import device_input, dtype_input, lora_input, seed_input
from ..nodes.merge_options import options_input, rule_inputs, strength_rule_input

MAX_STEPS = 320
MAX_STRENGTH = 10.0
MIN_DENSITY, MAX_DENSITY = 0.01, 1.0
MAX_RANK = 4096


def file_inputs() -> dict[str, Any]:
    names = comfy_bridge.lora_names()
    return {
        "lora_a": (names, {"tooltip": "LoRA a, the first input of the merge: a file in ComfyUI's loras folders."}),
        "lora_b": (names, {"tooltip": "LoRA b, the second input of the merge: a file in ComfyUI's loras folders."}),
    }


def optional_inputs(setting: str, example: str, with_options: bool = True) -> dict[str, Any]:
    """The optional inputs; ``setting`` and ``example`` describe the list of values.

    ``with_options``: also weights and the socket for PM Merge Options.
    """
    tooltip = (
        "A LoRA to use instead of the file in lora_{}: one with block weights, a resized one, or an earlier merge. "
        "Its own strengths multiply those of the plot."
    )
    return {
        "lora_a_override": lora_input(tooltip.format("a")),
        "lora_b_override": lora_input(tooltip.format("b")),
        **({"options": options_input()} if with_options else {}),
        "seed": seed_input(),
        "values": (
            "STRING",
            {
                "default": "",
                "placeholder": example,
                "tooltip": f"A list of {setting}, such as {example}, instead of an even range. Empty: the range above.",
            },
        ),
        **(rule_inputs() if with_options else {"strength_rule": strength_rule_input()}),
    }


def compute_inputs() -> dict[str, Any]:
    return {"device": device_input(comfy_bridge.device_names()), "dtype": dtype_input()}


def strength_input(default: float, tooltip: str) -> tuple[str, dict]:
    return ("FLOAT", {"default": default, "min": -MAX_STRENGTH, "max": MAX_STRENGTH, "step": 0.01, "tooltip": tooltip})


def density_bound_input(default: float, tooltip: str) -> tuple[str, dict]:
    return ("FLOAT", {"default": default, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": tooltip})


def rank_bound_input(default: int, tooltip: str) -> tuple[str, dict]:
    return ("INT", {"default": default, "min": 1, "max": MAX_RANK, "step": 1, "tooltip": tooltip})


def steps_input(values: str) -> tuple[str, dict]:
    tooltip = f"The number of {values}, evenly spaced from the first to the last. 1 uses only the first."
    return ("INT", {"default": 4, "min": 1, "max": MAX_STEPS, "step": 1, "tooltip": tooltip})
