"""Turns weight-dependent modules (DoRA, GLoRA, OFT, BOFT) into plain deltas of the connected model's weights.

ComfyUI's own code computes the delta, from the unpatched weight and at the LoRA's strength. PEFT's DoRA, which ComfyUI
doesn't support, is computed from its formula.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import comfy.lora
import torch
from torch import Tensor

from ..merge.adapters.architecture import architecture_of
from ..merge.adapters.base import Adapter, Lora
from ..merge.adapters.combine import same_weight, shape_text
from ..merge.errors import LoraError
from ..merge.formats.peft_dora import PeftDora
from ..merge.formats.weight_dependent import WeightDependentModule
from ..merge.lazy import LazyTensor
from ..merge.merging.key_resolver import ModelNames
from ..merge.names import ALL_ROWS, RowRange, Target, loadable
from ..merge.provenance.recipe import FROM_MODEL
from . import comfy_bridge

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ResolvedModule(Adapter):
    """A weight-dependent module bound to its base weight. The delta is computed on every access and never cached."""

    family: str  # of the module it replaces
    name: str
    compute: Callable[[], Tensor]
    shape: tuple[int, ...]
    block_weight: float = 1.0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def rank(self) -> int:
        return min(self.shape[0], math.prod(self.shape[1:]))

    def dense(self) -> Tensor:
        return self.compute().flatten(1)

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        yield ".diff", LazyTensor(torch.float32, self.weight_shape, lambda: self.compute() * self.block_weight)


def with_base_weights(lora: Lora, model: Any, clip: Any) -> Lora:
    """The LoRA with its weight-dependent modules replaced by deltas of these models' weights.

    Returns the LoRA itself if it has no such module or neither model is connected. Raises LoraError if one of them has
    no weight in the connected model and clip.
    """
    if (model is None and clip is None) or not any(module.is_weight_dependent for module in lora.modules.values()):
        return lora
    targets = comfy_bridge.key_map(model, clip)
    weights = comfy_bridge.base_weights(model, clip)
    architecture = architecture_of(lora)
    modules = dict(lora.modules)
    for key, module in lora.modules.items():
        if isinstance(module, WeightDependentModule | PeftDora):
            name = loadable(module.name, architecture)
            target = targets.get(name)
            if comfy_bridge.target_parts(target)[0] not in weights:
                raise LoraError(
                    f"{lora.name}: {module.family} module {module.name} has no weight in the connected model. "
                    "Connect the model and clip that the LoRA was made for."
                )
            if isinstance(module, PeftDora):
                modules[key] = _resolved_peft_dora(module, lora.name, target, weights)
            else:
                modules[key] = _resolved(module, name, lora, target, weights)
    return replace(lora, modules=modules, source={**lora.source, FROM_MODEL: True})


def model_names(model: Any, clip: Any) -> ModelNames | None:
    """How these models resolve module names: by their recognised architecture and by ComfyUI's own key map."""
    if model is None and clip is None:
        return None
    targets = comfy_bridge.key_map(model, clip)
    weights = comfy_bridge.base_weights(model, clip)
    architecture = comfy_bridge.architecture_of_model(model)

    def resolve(name: str) -> Target | None:
        found = targets.get(name, targets.get(loadable(name, architecture)))
        if found is None:
            return None
        key, row_range, function = comfy_bridge.target_parts(found)
        rows = ALL_ROWS
        if row_range is not None:
            dim, first, length = row_range
            height = weights[key].shape[dim]
            rows = RowRange(Fraction(first, height), Fraction(first + length, height))
        # the only function in ComfyUI's key maps swaps shift and scale
        return Target(key.removesuffix(".weight"), rows, function is not None)

    return ModelNames(architecture, resolve)


def _resolved(
    module: WeightDependentModule, name: str, lora: Lora, target: Any, weights: dict[str, comfy_bridge.BaseWeight]
) -> Adapter:
    key, row_range, function = comfy_bridge.target_parts(target)
    tensors = {name + suffix: tensor for suffix, tensor in module.stored.items()}
    patch = comfy.lora.load_lora(tensors, {name: target}, log_missing=False)[target]
    strength = lora.strength_of(module) or 1.0

    def delta() -> Tensor:
        weight = weights[key].read()
        # calculate_weight works in place
        changed = comfy.lora.calculate_weight([(strength, patch, 1.0, row_range, function)], weight.clone(), key)
        # Computed at the LoRA's strength because an OFT's delta isn't linear in it; the merge multiplies by it again.
        change = (changed - weight) / strength
        if row_range is not None:
            change = change.narrow(*row_range)
        if not change.any():
            # ComfyUI only logs mismatched shapes
            log.warning("%s: %s module %s has no effect on the connected model.", lora.name, module.family, name)
        return change if function is None else function(change)

    shape = _shape(weights[key], row_range)
    return ResolvedModule(module.family, module.name, delta, shape, module.block_weight)


def _resolved_peft_dora(
    module: PeftDora, lora: str, target: Any, weights: dict[str, comfy_bridge.BaseWeight]
) -> Adapter:
    """PEFT's DoRA on these weights. Its delta doesn't depend on the strength, which only scales it."""
    key, row_range, function = comfy_bridge.target_parts(target)
    shape = _shape(weights[key], row_range)
    if not same_weight(module.weight_shape, shape):
        raise LoraError(
            f"{lora}: {module.family} module {module.name} is for a weight of shape {shape_text(module.weight_shape)}, "
            f"but the connected model's is {shape_text(shape)}. Connect the model that the LoRA was made for."
        )

    def delta() -> Tensor:
        weight = weights[key].read()
        if row_range is not None:
            weight = weight.narrow(*row_range)
        # the function swaps the two halves of the rows, so it also brings the weight into the module's row order
        return module.change_of(weight if function is None else function(weight))

    return ResolvedModule(module.family, module.name, delta, shape, module.block_weight)


def _shape(weight: comfy_bridge.BaseWeight, row_range: comfy_bridge.RowRange | None) -> tuple[int, ...]:
    shape = list(weight.shape)
    if row_range is not None:
        dim, _, length = row_range
        shape[dim] = length
    return tuple(shape)
