"""Modules that change a model's weight in a way that depends on it (DoRA, GLoRA, OFT, BOFT), as plain deltas.

The delta is the one that ComfyUI's own code makes of the connected model's unpatched weight at the LoRA's strength;
PEFT's DoRA, which ComfyUI doesn't know, is computed by its formula.
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
from ..merge.formats.based import WeightDependentModule
from ..merge.formats.peft_dora import PeftDora
from ..merge.lazy import Later
from ..merge.merging.key_resolver import ModelNames
from ..merge.names import ALL_ROWS, RowRange, Target, loadable
from ..merge.provenance.recipe import FROM_MODEL
from . import comfy_bridge

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ResolvedModule(Adapter):
    """A weight-dependent module with the weight at hand; its delta is computed when it is needed, never kept."""

    family: str  # type: ignore[misc]  # that of the module it stands for
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

    def factors(self) -> None:
        return None

    def dense(self) -> Tensor:
        return self.compute().flatten(1)

    def tensors(self) -> Iterator[tuple[str, Later]]:
        yield ".diff", Later(torch.float32, self.weight_shape, lambda: self.compute() * self.block_weight)


def with_base_weights(lora: Lora, model: Any, clip: Any) -> Lora:
    """The LoRA with its weight-dependent modules as deltas of these models' weights; itself where it has none.

    Raises LoraError when a module has no weight in the connected model and clip.
    """
    if (model is None and clip is None) or not any(module.needs_base for module in lora.modules.values()):
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
                    "Connect the model and clip that the LoRA is for."
                )
            if isinstance(module, PeftDora):
                modules[key] = _directed(module, lora.name, target, weights)
            else:
                modules[key] = _resolved(module, name, lora, target, weights)
    return replace(lora, modules=modules, source={**lora.source, FROM_MODEL: True})


def model_names(model: Any, clip: Any) -> ModelNames | None:
    """What names mean to these models, by what their weights are recognised as and by ComfyUI's own key map."""
    if model is None and clip is None:
        return None
    targets = comfy_bridge.key_map(model, clip)
    weights = comfy_bridge.base_weights(model, clip)
    architecture = comfy_bridge.architecture_of_model(model)

    def resolve(name: str) -> Target | None:
        found = targets.get(name, targets.get(loadable(name, architecture)))
        if found is None:
            return None
        key, window, function = comfy_bridge.target_parts(found)
        rows = ALL_ROWS
        if window is not None:
            height = weights[key].shape[window[0]]
            rows = RowRange(Fraction(window[1], height), Fraction(window[1] + window[2], height))
        # the only function in ComfyUI's maps swaps shift and scale
        return Target(key.removesuffix(".weight"), rows, function is not None)

    return ModelNames(architecture, resolve)


def _resolved(
    module: WeightDependentModule, name: str, lora: Lora, target: Any, weights: dict[str, comfy_bridge.BaseWeight]
) -> Adapter:
    key, window, function = comfy_bridge.target_parts(target)
    tensors = {name + suffix: tensor for suffix, tensor in module.stored.items()}
    patch = comfy.lora.load_lora(tensors, {name: target}, log_missing=False)[target]
    strength = lora.strength_of(module) or 1.0

    def delta() -> Tensor:
        weight = weights[key].read()
        # calculate_weight works in place
        changed = comfy.lora.calculate_weight([(strength, patch, 1.0, window, function)], weight.clone(), key)
        # an OFT's delta is no multiple of its strength: the merge multiplies by the strength again
        change = (changed - weight) / strength
        if window is not None:
            change = change.narrow(*window)
        if not change.any():
            # ComfyUI logs a mismatch of shapes and goes on
            log.warning("%s: %s module %s changes nothing in the connected model.", lora.name, module.family, name)
        return change if function is None else function(change)

    shape = _shape(weights[key], window)
    return ResolvedModule(module.family, module.name, delta, shape, module.block_weight)


def _directed(module: PeftDora, lora: str, target: Any, weights: dict[str, comfy_bridge.BaseWeight]) -> Adapter:
    """PEFT's DoRA of these weights. Its delta is the same at any strength, which then multiplies it."""
    key, window, function = comfy_bridge.target_parts(target)
    shape = _shape(weights[key], window)
    if not same_weight(module.weight_shape, shape):
        raise LoraError(
            f"{lora}: {module.family} module {module.name} is for a weight of shape {shape_text(module.weight_shape)}, "
            f"but the connected model's is {shape_text(shape)}. Connect the model that the LoRA is for."
        )

    def delta() -> Tensor:
        weight = weights[key].read()
        if window is not None:
            weight = weight.narrow(*window)
        # the function swaps the halves of the rows, and back
        return module.change_of(weight if function is None else function(weight))

    return ResolvedModule(module.family, module.name, delta, shape, module.block_weight)


def _shape(weight: comfy_bridge.BaseWeight, window: tuple[int, int, int] | None) -> tuple[int, ...]:
    shape = list(weight.shape)
    if window is not None:
        shape[window[0]] = window[2]
    return tuple(shape)
