"""PM Inspect LoRA."""

from __future__ import annotations

from typing import Any

import nodes

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.inspecting.figure import figure_of
from ..merge.inspecting.inspect import inspect
from ..merge.inspecting.report import as_text
from ..pictures.inspection import as_tensor, draw_inspection
from . import comfy_bridge
from .base_weights import model_names, with_base_weights
from .inputs import INSPECT_CATEGORY, GrowingInputs, base_model_inputs, growing_lora_input, growing_loras
from .stack import stack_input, stack_state, stacked_loras

comfy_nodes: Any = nodes


class InspectLora:
    DESCRIPTION = (
        "Looks into LoRAs: how strong each is, in which blocks, and which rank it needs; of several, whether they are "
        "independent or overlap, and what to do about it. Changes nothing."
    )
    CATEGORY = INSPECT_CATEGORY
    SEARCH_ALIASES = ["lora analyzer", "lora info", "lora heat map", "lora conflict", "lora overlap", "power merge"]
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("picture", "report")
    OUTPUT_TOOLTIPS = (
        "The picture that the node shows.",
        "All numbers as text, with advice. Connect it to Preview as Text.",
    )
    OUTPUT_NODE = True
    FUNCTION = "inspect"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {},
            "optional": GrowingInputs(
                {
                    **base_model_inputs(),
                    "lora_stack": stack_input(
                        "A LoRA stack, from this pack or another. Its LoRAs come after lora1, lora2, ..."
                    ),
                    "lora1": growing_lora_input(
                        "A LoRA to look into: loaded, merged or resized. Its strengths and block weights count. "
                        "Connecting it adds an input for the next one."
                    ),
                }
            ),
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> int:
        return stack_state(inputs)

    def inspect(self, model: Any = None, clip: Any = None, lora_stack: object = None, **loras: object) -> dict:
        connected = _connected(loras, lora_stack, model, clip)
        inspection = inspect(connected, model_names(model, clip), comfy_bridge.compute("cpu", "float32"))
        image = draw_inspection(figure_of(inspection))
        picture = as_tensor(image)
        shown = comfy_nodes.PreviewImage().save_images(picture, "PM.Inspect")["ui"]
        return {"ui": {**shown, "picture_size": list(image.size)}, "result": (picture, as_text(inspection))}


def _connected(loras: dict[str, object], lora_stack: object, model: Any, clip: Any) -> list[Lora]:
    connected = growing_loras(loras) + stacked_loras(lora_stack)
    if not connected:
        raise LoraError("No LoRA is connected. Connect PM Load LoRA to lora1, or a LoRA stack to lora_stack.")
    return [with_base_weights(lora, model, clip) for lora in connected]
