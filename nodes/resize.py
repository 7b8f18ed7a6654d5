"""PM Resize LoRA."""

from __future__ import annotations

from typing import Any

from ..merge.adapters.base import Lora
from ..merge.compute.truncation_loss import TruncationLoss
from ..merge.merging.resize import resize
from . import comfy_bridge
from .base_weights import with_base_weights
from .inputs import (
    LORA,
    MERGE_CATEGORY,
    base_model_inputs,
    device_input,
    dtype_input,
    lora_input,
    rank_input,
    rank_method_inputs,
    require_lora,
)
from .resize_summary import resize_summary


class ResizeLora:
    DESCRIPTION = "Reduces a LoRA to a smaller rank with the least possible loss, or to the rank each module needs."
    CATEGORY = MERGE_CATEGORY
    SEARCH_ALIASES = ["lora resize", "shrink lora", "lora rank", "power merge"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The resized LoRA, with its strengths unchanged.",)
    FUNCTION = "resize"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "lora": lora_input("The LoRA to resize: loaded or merged."),
                "new_rank": rank_input(
                    16,
                    1,
                    "Rank of linear layers and 1x1 convolutions. With method fixed they all get it; with the sv_ "
                    "methods it is the upper limit. A module with a smaller rank keeps its own.",
                ),
                "device": device_input(comfy_bridge.device_names()),
                "dtype": dtype_input(),
            },
            "optional": {
                "conv_rank": rank_input(0, 0, "The same for larger convolutions. 0 uses new_rank."),
                **rank_method_inputs(),
                **base_model_inputs(),
            },
        }

    def resize(
        self,
        lora: Lora,
        new_rank: int,
        device: str,
        dtype: str,
        conv_rank: int = 0,
        method: str = "fixed",
        method_value: float = 0.9,
        model: Any = None,
        clip: Any = None,
    ) -> dict:
        loss = TruncationLoss()
        compute = loss.observe(comfy_bridge.compute(device, dtype))
        lora = with_base_weights(require_lora(lora, "lora"), model, clip)
        resized = resize(lora, new_rank, conv_rank, method, method_value, compute)
        return {"ui": {"text": [resize_summary(lora, resized, loss)]}, "result": (resized,)}
