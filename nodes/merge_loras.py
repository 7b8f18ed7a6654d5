"""PM Merge LoRA and PM Merge LoRA SVD."""

from __future__ import annotations

from typing import Any

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.merging.merge_deltas import merge_deltas
from ..merge.merging.merge_factors import merge_factors
from ..merge.methods.registry import DELTA_MODES, FACTOR_MODES
from . import comfy_bridge
from .base_weights import model_names, with_base_weights
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
    mode_input,
    rank_input,
    seed_input,
)
from .merge_summary import MergeSummary
from .stack import stack_input, stack_state, stacked_loras


class MergeLoras:
    DESCRIPTION = (
        "Merges any number of LoRAs into one by combining their factors, as PEFT does. The default mode, concat, is "
        "exact: the result gives the same picture as loading the LoRAs one after the other."
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
                "mode": mode_input(FACTOR_MODES, "concat"),
                "density": density_input(),
                "device": device_input(comfy_bridge.device_names()),
                "dtype": dtype_input(),
            },
            "optional": _optional_inputs(),
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> int:
        return stack_state(inputs)

    def merge(
        self,
        mode: str,
        density: float,
        device: str,
        dtype: str,
        seed: int = 0,
        model: Any = None,
        clip: Any = None,
        lora_stack: object = None,
        **loras: object,
    ) -> dict:
        summary = MergeSummary()
        compute = summary.observe(comfy_bridge.compute(device, dtype))
        connected = _all_loras(loras, lora_stack, model, clip)
        merged = merge_factors(connected, mode, density, seed, compute, model_names(model, clip))
        return {"ui": {"text": [summary.describe(merged, connected)]}, "result": (merged,)}


class MergeLorasSvd:
    DESCRIPTION = (
        "Merges any number of LoRAs, of any ranks, by combining the changes they make to the weights, and truncates "
        "the result by SVD to the rank you choose. add_svd is the exact sum before truncation."
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
                "mode": mode_input(DELTA_MODES, "add_svd"),
                "density": density_input(),
                "svd_rank": rank_input(
                    32,
                    0,
                    "Rank of the result in linear layers and 1x1 convolutions. A higher rank keeps more detail in a "
                    "larger file; 0 uses the largest rank among the inputs.",
                ),
                "svd_conv_rank": rank_input(
                    0, 0, "Rank of the result in larger convolutions. 0 uses the largest rank among the inputs."
                ),
                "device": device_input(comfy_bridge.device_names()),
                "dtype": dtype_input(),
            },
            "optional": _optional_inputs(),
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> int:
        return stack_state(inputs)

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
        lora_stack: object = None,
        **loras: object,
    ) -> dict:
        summary = MergeSummary()
        compute = summary.observe(comfy_bridge.compute(device, dtype))
        connected = _all_loras(loras, lora_stack, model, clip)
        merged = merge_deltas(
            connected, mode, density, svd_rank, svd_conv_rank, seed, compute, model_names(model, clip)
        )
        return {"ui": {"text": [summary.describe(merged, connected)]}, "result": (merged,)}


def _optional_inputs() -> GrowingInputs:
    return GrowingInputs(
        {
            **base_model_inputs(),
            "lora_stack": stack_input(
                "A LoRA stack, from this pack or another. Its LoRAs are merged after lora1, lora2, ..."
            ),
            # the last socket (seed is a widget): the front end appends lora2, lora3, ... after it
            "lora1": growing_lora_input(),
            "seed": seed_input(),
        }
    )


def _all_loras(loras: dict[str, object], lora_stack: object, model: Any, clip: Any) -> list[Lora]:
    connected = growing_loras(loras) + stacked_loras(lora_stack)
    if not connected:
        raise LoraError(
            "No LoRA is connected. Connect PM Load LoRA to lora1 (an input for the next LoRA then appears), or a LoRA "
            "stack to lora_stack."
        )
    return [with_base_weights(lora, model, clip) for lora in connected]
