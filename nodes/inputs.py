"""Specifications of the inputs that several nodes share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.compute.context import DTYPES
from ..merge.errors import LoraError
from ..merge.methods.registry import mode_tooltip, using_density, using_seed

CATEGORY = "LoRA PowerMerge"
LORA = "LoRA"
MAX_SEED = 2**64 - 1

_GROWN = re.compile(r"lora([1-9]\d*)")
# ComfyUI validates what the dictionary of optional inputs iterates over; links beyond reach the node unvalidated.
VALIDATED_LORAS = 1000


class GrowingInputs(dict):
    """Optional inputs with lora1, lora2, ... without end, of which /object_info shows only lora1.

    ComfyUI asks keys() and items() for what it shows, but iterates over the dictionary and looks names up in it for
    what it validates: so links to lora2, lora3, ... are checked like declared inputs before the prompt runs.
    """

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or _is_grown(name)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__("lora1" if not super().__contains__(name) and _is_grown(name) else name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default

    def __iter__(self) -> Iterator[str]:
        yield from self.keys()
        yield from (f"lora{n}" for n in range(2, VALIDATED_LORAS + 1))


def _is_grown(name: object) -> bool:
    return isinstance(name, str) and _GROWN.fullmatch(name) is not None


def growing_loras(inputs: Mapping[str, object]) -> list[Lora]:
    """The LoRAs among a node's keyword arguments in the order of their numbers. Raises LoraError when one is none."""
    numbered = sorted((int(name[4:]), name) for name in inputs if _is_grown(name) and inputs[name] is not None)
    return [require_lora(inputs[name], name) for _, name in numbered]


def require_lora(value: object, name: str) -> Lora:
    if not isinstance(value, Lora):
        raise LoraError(
            f"What is connected to {name} is no LoRA of this pack but a {type(value).__name__}. "
            "Load the LoRA with PM Load LoRA."
        )
    return value


def lora_input(tooltip: str) -> tuple[str, dict]:
    return (LORA, {"tooltip": tooltip})


def growing_lora_input() -> tuple[str, dict]:
    tooltip = "A LoRA to merge. When it is connected, an input for the next one appears."
    # the page grows inputs on nodes whose lora1 says so
    return (LORA, {"tooltip": tooltip, "growing": True})


def strength_input(tooltip: str) -> tuple[str, dict]:
    return ("FLOAT", {"default": 1.0, "min": -20.0, "max": 20.0, "step": 0.01, "tooltip": tooltip})


def mode_input(modes: Sequence[str], default: str) -> tuple[Sequence[str], dict]:
    """A merge mode. The page greys out the widgets that ``uses`` names while the mode is none of theirs."""
    uses = {"density": using_density(modes), "seed": using_seed(modes)}
    return (modes, {"default": default, "tooltip": mode_tooltip(modes), "uses": uses})


def density_input() -> tuple[str, dict]:
    return (
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "Share of each LoRA's values that is kept, by the modes ties, dare_linear, dare_ties and "
            "magnitude_prune. 1 keeps all of them; 0.5 to 0.8 is a good start. add and concat don't use it.",
        },
    )


def rank_input(default: int, least: int, tooltip: str) -> tuple[str, dict]:
    return ("INT", {"default": default, "min": least, "max": 4096, "step": 1, "tooltip": tooltip})


def device_input(devices: list[str]) -> tuple[list[str], dict]:
    return (
        devices,
        {
            "default": "auto",
            "tooltip": "Where to compute. auto: the device ComfyUI uses. Where there is no cuda, cuda means the CPU.",
        },
    )


def dtype_input() -> tuple[tuple[str, ...], dict]:
    return (
        tuple(DTYPES),
        {
            "default": "float32",
            "tooltip": "Precision of the result. The arithmetic is float32 or better in any case; "
            "float16 and bfloat16 halve the file.",
        },
    )


def seed_input() -> tuple[str, dict]:
    return (
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": MAX_SEED,
            # ComfyUI would add a widget that changes the seed after each run, and with it every merge
            "control_after_generate": False,
            "tooltip": "Which values the dare modes drop. The same seed gives the same merge on every machine; "
            "the other modes don't use it.",
        },
    )


def base_model_inputs() -> dict[str, tuple[str, dict]]:
    """The optional model and clip of the nodes that compute with LoRAs."""
    tooltip = (
        "For DoRA, GLoRA, OFT and BOFT, whose change depends on the {} it is for, and for LoRAs whose names are "
        "unknown or fit several families: its weights then decide what they mean. Others don't need it."
    )
    return {
        "model": ("MODEL", {"tooltip": tooltip.format("model")}),
        "clip": ("CLIP", {"tooltip": tooltip.format("text encoder")}),
    }
