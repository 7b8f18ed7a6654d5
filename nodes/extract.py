"""PM Extract LoRA."""

from __future__ import annotations

from ..merge.compute.truncation_loss import TruncationLoss
from ..merge.models.extract import counted, extract
from . import comfy_bridge
from .inputs import LORA, MERGE_CATEGORY, device_input, dtype_input, rank_input, rank_method_inputs
from .model_files import model_names, model_path, models_state


class ExtractLora:
    DESCRIPTION = (
        "Makes a LoRA of the difference of two models: applied to the base model it gives about the tuned one. Each "
        "weight's difference is truncated to the rank with almost the least possible loss."
    )
    CATEGORY = MERGE_CATEGORY
    SEARCH_ALIASES = ["extract lora", "lora from checkpoint", "model difference", "checkpoint to lora", "power merge"]
    RETURN_TYPES = (LORA,)
    OUTPUT_TOOLTIPS = ("The difference as a LoRA at strength 1.",)
    FUNCTION = "extract"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        models = model_names()
        return {
            "required": {
                "tuned": (
                    models,
                    {"tooltip": "The tuned checkpoint, diffusion model or text encoder, as .safetensors."},
                ),
                "base": (models, {"tooltip": "The model that it was tuned from: a file of the same kind of model."}),
                "rank": rank_input(
                    32,
                    1,
                    "Rank of linear layers and 1x1 convolutions; with the sv_ methods the upper limit. A higher rank "
                    "keeps more of the difference in a larger file.",
                ),
                "conv_rank": rank_input(0, 0, "The same for larger convolutions. 0 uses rank."),
                **rank_method_inputs(),
                "device": device_input(comfy_bridge.device_names()),
                "dtype": dtype_input(),
            },
        }

    @classmethod
    def IS_CHANGED(cls, tuned: str | None = None, base: str | None = None, **inputs: object) -> str:
        return models_state(tuned, base)

    def extract(
        self,
        tuned: str,
        base: str,
        rank: int,
        conv_rank: int,
        method: str,
        method_value: float,
        device: str,
        dtype: str,
    ) -> dict:
        loss = TruncationLoss()
        compute = loss.observe(comfy_bridge.compute(device, dtype))
        paths = model_path(tuned), model_path(base)
        lora = extract(*paths, rank, conv_rank, method, method_value, compute)
        summary = f"{', '.join(counted(lora))}; {loss.kept} of the difference's norm kept"
        return {"ui": {"text": ["\n".join([summary, *lora.notes])]}, "result": (lora,)}
