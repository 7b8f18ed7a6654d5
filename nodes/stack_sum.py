"""The LoRAs of a stack as one, for PM Apply LoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.merging.merge_factors import merge_factors
from ..merge.names.prefixes import is_text_encoder
from . import comfy_bridge
from .base_weights import model_names, with_base_weights
from .stack import stacked_loras


def sum_of(lora: Lora | None, stack: object, model: Any, clip: Any) -> Lora:
    """The exact sum of a LoRA, which may be None, and of those in a stack, for a node that applies one LoRA.

    Raises LoraError if there is none.
    """
    loras = [*([] if lora is None else [lora]), *stacked_loras(stack)]
    if not loras:
        raise LoraError("No LoRA is connected. Connect one to lora, or a LoRA stack to lora_stack.")
    if len(loras) == 1:
        return loras[0]
    weighted = [with_base_weights(_applicable(one, clip), model, clip) for one in loras]
    compute = comfy_bridge.compute("auto", "float32")
    return merge_factors(weighted, "concat", compute=compute, model=model_names(model, clip))


def _applicable(lora: Lora, clip: Any) -> Lora:
    """Without a clip: the LoRA without the modules that would need its weights to be added to other LoRAs'."""
    needy = [m.key for m in lora.modules.values() if m.is_weight_dependent and is_text_encoder(m.name)]
    if clip is not None or not needy:
        return lora
    note = f"{lora.name}: {len(needy)} text encoder modules not applied because no clip is connected."
    kept = {key: module for key, module in lora.modules.items() if key not in needy}
    return replace(lora, modules=kept, architecture=architecture_of(lora), notes=(*lora.notes, note))
