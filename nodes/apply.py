"""PM Apply LoRA."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.sd
import torch

from ..merge.adapters.architecture import architecture_of, architectures_of
from ..merge.adapters.base import WEIGHT, Adapter, Lora, LoraModule
from ..merge.compute.context import Progress, no_progress
from ..merge.errors import LoraError
from ..merge.formats import to_state_dict
from ..merge.formats.key_styles import loadable_form
from ..merge.names import compatible
from ..merge.names.prefixes import is_text_encoder
from . import comfy_bridge
from .beside import add_beside, plan
from .inputs import USE_CATEGORY, lora_input, require_lora, strength_input
from .peft_dora_patch import add_peft_dora, without_peft_dora
from .stack import stack_input, stack_state
from .stack_sum import sum_of

log = logging.getLogger(__name__)

PATCH, BESIDE = "patch weights", "beside the weights"


class ApplyLora:
    DESCRIPTION = (
        "Applies a loaded, merged or resized LoRA to a model, the way ComfyUI's own LoRA loader applies a file."
    )
    CATEGORY = USE_CATEGORY
    SEARCH_ALIASES = ["apply lora", "use merged lora", "power merge"]
    RETURN_TYPES = ("MODEL", "CLIP")
    OUTPUT_TOOLTIPS = (
        "The model with the LoRA applied.",
        "The text encoder with the LoRA applied; empty if no clip is connected.",
    )
    FUNCTION = "apply_merged_lora"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model to apply the LoRA to."}),
            },
            "optional": {
                "lora": lora_input("The LoRA to apply: loaded, merged or resized."),
                "clip": (
                    "CLIP",
                    {"tooltip": "The text encoder. Leave unconnected if the LoRA has no text encoder part."},
                ),
                "strength_model": strength_input("Multiplies the LoRA's strength in the model."),
                "strength_clip": strength_input("Multiplies the LoRA's strength in the text encoder."),
                "lora_stack": stack_input(
                    "A LoRA stack, from this pack or another: the exact sum of its LoRAs is applied, plus lora if both "
                    "are connected."
                ),
                "how": (
                    [PATCH, BESIDE],
                    {
                        "default": PATCH,
                        "tooltip": "patch weights: adds the LoRA to the model's weights, as ComfyUI's loader does. "
                        "beside the weights: computes it next to each layer, a little slower. The weights of int8, "
                        "fp8 and FP4 models aren't rounded again, and another strength doesn't load the model again. "
                        "Nodes that save or merge models take the weights alone: for them, patch.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: object) -> int:
        return stack_state(inputs)

    def apply_merged_lora(
        self,
        model: Any,
        lora: Lora | None = None,
        clip: Any = None,
        strength_model: float = 1.0,
        strength_clip: float = 1.0,
        lora_stack: object = None,
        how: str = PATCH,
    ) -> dict:
        given = None if lora is None else require_lora(lora, "lora")
        lora = sum_of(given, lora_stack, model, clip).with_strengths(strength_model, strength_clip)
        beside: list[str] = []
        if how == BESIDE:
            *applied, text = apply_beside(model, clip, lora, comfy_bridge.progress())
            beside = [text] if text else []
        else:
            applied = apply_lora(model, clip, lora, comfy_bridge.progress())
        covered = coverage(model, clip, lora)
        shown: dict[str, list[str]] = {"text": ["\n".join([covered.text, *beside, *lora.notes])]}
        if not covered.complete:
            shown["warnings"] = [f"{lora.name}: {covered.text}"]
        return {"ui": shown, "result": tuple(applied)}


def apply_lora(model: Any, clip: Any, lora: Lora, progress: Progress = no_progress) -> tuple[Any, Any]:
    """Clones of model and clip (which may be None) with the LoRA added as patches by ComfyUI's own loader.

    An empty LoRA, or one whose modules are all at strength 0, returns them unchanged. Raises LoraError if the LoRA is
    for another kind of model.
    """
    if _does_nothing(lora):
        return model, clip
    _require_its_model(model, lora)
    lora = _without_zeros(lora)
    tensors = to_state_dict(without_peft_dora(lora), check=comfy_bridge.check_interrupt, progress=progress)
    model, clip = comfy.sd.load_lora_for_models(model, clip, tensors, lora.strength_model, lora.strength_clip)
    add_peft_dora(model, clip, lora)
    return model, clip


def apply_beside(model: Any, clip: Any, lora: Lora, progress: Progress = no_progress) -> tuple[Any, Any, str]:
    """Clones of model and clip (which may be None) with the LoRA beside their layers, and a line that says so.

    What can't be beside them is patched as by ``apply_lora``, and a model without any of that keeps its patches, so
    that ComfyUI doesn't load it again. Raises LoraError as ``apply_lora`` does.
    """
    if _does_nothing(lora):
        return model, clip, ""
    _require_its_model(model, lora)
    parts = plan(model, clip, lora)
    patched_model, _ = apply_lora(model, None, parts.rest_of_model, progress)
    _, patched_clip = apply_lora(None, clip, parts.rest_of_clip, progress)
    if model is not None:
        model = patched_model.clone()
        add_beside(model, parts.of_model)
    if clip is not None:
        clip = patched_clip.clone()
        add_beside(clip.patcher, parts.of_clip)
    return model, clip, parts.text


def _require_its_model(model: Any, lora: Lora) -> None:
    """Raise LoraError if the LoRA and the model are both recognised and of different kinds (SDXL and SD 1.5)."""
    ours, theirs = architecture_of(lora), comfy_bridge.architecture_of_model(model)
    if ours is None or theirs is None:
        return
    # a small LoRA can fit more than the likeliest one
    if not any(compatible(fitting, theirs) for fitting in architectures_of(lora)):
        raise LoraError(
            f"{lora.name} is for {ours.name}, but the connected model is {theirs.name}. "
            f"Connect a model of the kind {ours.name}, or choose a LoRA for {theirs.name}."
        )


def _does_nothing(lora: Lora) -> bool:
    """Whether the LoRA has no module, or all at strength 0: that of the text encoder alone doesn't count in a model."""
    return not any(map(lora.strength_of, lora.modules.values()))


def _without_zeros(lora: Lora) -> Lora:
    """The LoRA without its modules at strength 0, for the same kind of model."""
    modules = {key: module for key, module in lora.modules.items() if lora.strength_of(module) != 0}
    return replace(lora, modules=modules, architecture=architecture_of(lora))


@dataclass(frozen=True)
class Coverage:
    """``text`` says how many of a LoRA's modules apply; ``complete`` is false if the model has no place for some."""

    text: str
    complete: bool


def coverage(model: Any, clip: Any, lora: Lora) -> Coverage:
    """How many of the LoRA's modules apply to this model and text encoder, in one line; also logged.

    Counted here because ComfyUI silently skips modules that its key map lacks or whose shape doesn't match.
    """
    if _does_nothing(lora):
        return Coverage("Nothing applied: the LoRA is empty or at strength 0.", complete=True)
    mapped = comfy_bridge.key_map(model, clip)
    shapes = {key: weight.shape for key, weight in comfy_bridge.base_weights(model, clip).items()}
    modules = list(loadable_form(_without_zeros(lora)).modules.values())
    without_clip = [m for m in modules if clip is None and is_text_encoder(m.name)]
    counted = [m for m in modules if m not in without_clip]
    missing = [m.name for m in counted if m.name not in mapped]
    misshapen = [m.name for m in counted if m.name in mapped and not _fits(m, mapped[m.name], shapes)]
    applied = len(counted) - len(missing) - len(misshapen)
    parts = [f"{applied} of {len(counted)} modules applied."]
    if missing:
        parts.append(f"{_have(missing)} no matching weight in this model ({_first(missing)}).")
    if misshapen:
        parts.append(f"{_have(misshapen)} a different shape from the model's weight ({_first(misshapen)}).")
    if not applied and counted:
        parts.append(_wrong_model(lora, model))
    if without_clip:
        parts.append(f"{len(without_clip)} text encoder modules not applied because no clip is connected.")
    if zeros := len(lora.modules) - len(_without_zeros(lora).modules):
        part = "text encoder" if lora.strength_clip == 0 else "model"
        parts.append(f"{zeros} {part} modules left out at strength 0.")
    complete = applied == len(counted)
    log.log(logging.INFO if complete else logging.WARNING, "%s: %s", lora.name, " ".join(parts))
    return Coverage(" ".join(parts), complete)


def _fits(module: Adapter, target: Any, shapes: Mapping[str, torch.Size]) -> bool:
    """Whether ComfyUI will accept the module's delta for the weight that its key map assigns to it."""
    key, row_range, _ = comfy_bridge.target_parts(target)
    if key not in shapes:
        return False
    # a Flux control LoRA widens the weight first
    pads_weight = isinstance(module, LoraModule) and module.reshape is not None
    if pads_weight or not module.weight_shape or module.parameter != WEIGHT:
        return True
    shape = list(shapes[key])
    if row_range is not None:
        dim, _, length = row_range
        shape[dim] = length
    # ComfyUI reshapes a delta that has the right number of elements
    return math.prod(module.weight_shape) == math.prod(shape) and module.weight_shape[0] == shape[0]


def _have(names: Sequence[str]) -> str:
    return f"{len(names)} {'has' if len(names) == 1 else 'have'}"


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _wrong_model(lora: Lora, model: Any) -> str:
    ours, theirs = architecture_of(lora), comfy_bridge.architecture_of_model(model)
    if ours is None or ours is theirs:
        return f"{lora.name} is for a different kind of model."
    return f"{lora.name} is for {ours.name}, but this model is {'of another kind' if theirs is None else theirs.name}."
