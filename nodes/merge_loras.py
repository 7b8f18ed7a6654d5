"""PM Merge LoRA and PM Merge LoRA SVD."""

from __future__ import annotations

from typing import Any

from ..merge.lora import Lora
from ..merge.merger import merge_deltas, merge_factors
from ..merge.methods import DELTA_MODES, FACTOR_MODES, mode_tooltip
from . import comfy_bridge
from .base_weights import with_base_weights
from .inputs import (
    CATEGORY,
    LORA,
    GrowingInputs,
    base_model_inputs,
    density_input,
    device_input,
    dtype_input,
    growing_lora_input,
    growing_loras,
    rank_input,
    seed_input,
)


class MergeLoras:
    DESCRIPTION = (
        "Merges any number of LoRAs into one on their factors, as PEFT does. concat is exact: it gives the picture "
        "that loading the LoRAs one after the other gives."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["lora merger", "combine loras", "ties", "dare", "concat", "power merge"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The merged LoRA, at strength 1.",)
    FUNCTION = "merge"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "mode": (
                    FACTOR_MODES,
                    {
                        "default": "concat",
                        "tooltip": mode_tooltip(FACTOR_MODES),
                    },
                ),
                "density": density_input(),
                "device": device_input(comfy_bridge.device_names()),
                "dtype": dtype_input(),
            },
            "optional": GrowingInputs({"lora1": growing_lora_input(), "seed": seed_input(), **base_model_inputs()}),
        }

    def merge(
        self,
        mode: str,
        density: float,
        device: str,
        dtype: str,
        seed: int = 0,
        model: Any = None,
        clip: Any = None,
        **loras: object,
    ) -> tuple[Lora]:
        connected = [with_base_weights(lora, model, clip) for lora in growing_loras(loras)]
        return (merge_factors(connected, mode, density, seed, comfy_bridge.compute(device, dtype)),)


class MergeLorasSvd:
    DESCRIPTION = (
        "Merges any number of LoRAs, also of different ranks, on the changes they make to the weights, and cuts the "
        "result to a rank of your choice by SVD. add_svd is the exact sum before the cut."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["lora svd merger", "combine loras", "ties svd", "dare svd", "power merge"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The merged LoRA, at strength 1.",)
    FUNCTION = "merge"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "mode": (
                    DELTA_MODES,
                    {
                        "default": "add_svd",
                        "tooltip": mode_tooltip(DELTA_MODES),
                    },
                ),
                "density": density_input(),
                "svd_rank": rank_input(
                    32,
                    0,
                    "Rank of the result's linear and 1x1 modules. 0: the largest rank among the inputs.",
                ),
                "svd_conv_rank": rank_input(
                    0, 0, "Rank of the result's larger convolutions. 0: the largest rank among the inputs."
                ),
                "device": device_input(comfy_bridge.device_names()),
                "dtype": dtype_input(),
            },
            "optional": GrowingInputs({"lora1": growing_lora_input(), "seed": seed_input(), **base_model_inputs()}),
        }

    def merge(
        self,
        mode: str,
        density: float,
        svd_rank: int,
        svd_conv_rank: int,
        device: str,
        dtype: str,
        seed: int = 0,
        model: Any = None,
        clip: Any = None,
        **loras: object,
    ) -> tuple[Lora]:
        connected = [with_base_weights(lora, model, clip) for lora in growing_loras(loras)]
        compute = comfy_bridge.compute(device, dtype)
        return (merge_deltas(connected, mode, density, svd_rank, svd_conv_rank, seed, compute),)
