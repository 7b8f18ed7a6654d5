"""Applies LoRAs beside a model's layers: their part is added to what a layer puts out, and its weight stays as it is.

A quantised weight isn't rounded again, and another strength doesn't load the model again. ComfyUI's own version
(comfy/weight_adapter/bypass.py) replaces the layers' forward methods, and takes the first of two that share a layer off
before the second, which then puts it back. Forward hooks of torch can be added and removed in any order, and work in
every ComfyUI that has injections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.patcher_extension import CallbacksMP, PatcherInjection
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..merge.adapters.base import Adapter, Lora, by_key
from ..merge.adapters.products import Layer, Product
from ..merge.formats.key_styles import loadable_form
from ..merge.names.prefixes import is_text_encoder
from . import comfy_bridge
from .beside_layers import fits, layer_of, module_at, skips_forward, why_patched

# Begins the names of our injections: each LoRA on a model has its own.
INJECTION = "lora_power_merger"


@dataclass(frozen=True)
class Part:
    """What one module adds to a layer's output: to all of it, or to ``rows`` (first, count) of its features.

    ``function`` brings features into the layer's order; it takes them as the first dimension.
    """

    product: Product
    strength: float
    rows: tuple[int, int] | None = None
    function: Callable[[Tensor], Tensor] | None = None


class LayerHook:
    """A forward hook that adds its parts to a layer's output.

    It keeps copies of the factors in the input's precision and on its device until ``release``.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.parts: list[Part] = []
        self._ready: dict[tuple[torch.device, torch.dtype], list[Part]] = {}

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        x = args[0] if args else next(iter(kwargs.values()))
        if output.requires_grad:  # autograd may need it as it is
            output = output.clone()
        channel = self.layer.channel
        for part in self._parts_for(x):
            added = part.product.of(x, self.layer)
            if part.function is not None:
                added = part.function(added.movedim(channel, 0)).movedim(0, channel)
            into = output if part.rows is None else output.narrow(channel, *part.rows)
            # the output is the layer's own and nobody else has seen it
            into.add_(added.to(output.dtype), alpha=part.strength * part.product.scale)
        return output

    def _parts_for(self, x: Tensor) -> Sequence[Part]:
        kind = x.device, x.dtype
        if kind not in self._ready:
            self._ready[kind] = [replace(part, product=part.product.to(x)) for part in self.parts]
        return self._ready[kind]

    def release(self) -> None:
        self._ready.clear()


class Injection:
    """The hooks of one LoRA, by the paths of their layers, which ComfyUI puts on a model while that is loaded."""

    def __init__(self, hooks: Mapping[str, LayerHook]) -> None:
        self._hooks = hooks
        self._handles: dict[int, list[RemovableHandle]] = {}  # by the model's id: a copy for another GPU has its own

    def inject(self, patcher: Any) -> None:
        if id(patcher.model) not in self._handles:
            self._handles[id(patcher.model)] = [
                module_at(patcher.model, path).register_forward_hook(hook, with_kwargs=True)
                for path, hook in self._hooks.items()
            ]

    def eject(self, patcher: Any) -> None:
        for handle in self._handles.pop(id(patcher.model), ()):
            handle.remove()
        if not self._handles:
            for hook in self._hooks.values():
                hook.release()


@dataclass(frozen=True)
class Plan:
    """A LoRA divided for a model and its text encoder: hooks by the paths of their layers, and what must be patched.

    ``rest_of_model`` and ``rest_of_clip`` have only modules with a weight in the model. ``why`` counts them by the
    reason.
    """

    of_model: Mapping[str, LayerHook]
    of_clip: Mapping[str, LayerHook]
    rest_of_model: Lora
    rest_of_clip: Lora
    why: Mapping[str, int]

    @property
    def text(self) -> str:
        count = sum(len(hook.parts) for hooks in (self.of_model, self.of_clip) for hook in hooks.values())
        if not self.why:
            return f"{count} beside the weights."
        reasons = ", ".join(f"{reason} ({n})" for reason, n in self.why.items())
        return f"{count} beside the weights. Patched into them, because they can't be beside them: {reasons}."


def plan(model: Any, clip: Any, lora: Lora) -> Plan:
    """Divide a LoRA for these models; ``clip`` may be None. Reads the tensors of what goes beside."""
    targets = comfy_bridge.key_map(model, clip)
    hooks: tuple[dict[str, LayerHook], dict[str, LayerHook]] = ({}, {})
    rest: tuple[list[Adapter], list[Adapter]] = ([], [])
    why: Counter[str] = Counter()
    loadable = loadable_form(lora)
    for adapter in loadable.modules.values():
        comfy_bridge.check_interrupt()
        of_clip = is_text_encoder(adapter.name)
        patcher = getattr(clip, "patcher", None) if of_clip else model
        if patcher is None or adapter.name not in targets or lora.strength_of(adapter) == 0:
            continue
        key, row_range, function = comfy_bridge.target_parts(targets[adapter.name])
        path = key.removesuffix(".weight")
        module = module_at(patcher.model, path)
        layer = layer_of(module)
        reason = why_patched(adapter, layer, row_range)
        if reason is None and skips_forward(patcher.model, path):
            reason = "int8 layers that ComfyUI computes together with the activation before them"
        if reason is not None or layer is None:
            rest[of_clip].append(adapter)
            why[reason or ""] += 1
        elif fits(adapter, module, layer, row_range):
            rows = None if row_range is None else row_range[1:]
            part = Part(adapter.product(), lora.strength_of(adapter), rows, function)
            hooks[of_clip].setdefault(path, LayerHook(layer)).parts.append(part)
    of_model, of_clip = (replace(loadable, modules=by_key(adapters)) for adapters in rest)
    return Plan(*hooks, of_model, of_clip, why)


def add_beside(patcher: Any, hooks: Mapping[str, LayerHook]) -> None:
    """Have ComfyUI put the hooks on the model while this patcher is loaded, in place: pass a clone."""
    if not hooks:
        return
    injection = Injection(hooks)
    number = sum(name.startswith(INJECTION) for name in patcher.injections)
    patcher.set_injections(f"{INJECTION}.{number}", [PatcherInjection(injection.inject, injection.eject)])
    if INJECTION not in patcher.callbacks.get(CallbacksMP.ON_CLONE, {}):
        patcher.add_callback_with_key(CallbacksMP.ON_CLONE, INJECTION, _not_injected)
    _not_injected(patcher, patcher)


def _not_injected(_: Any, clone: Any) -> None:
    """A clone of a loaded patcher takes over that it is injected, and would put hooks on a model that others use."""
    clone.is_injected = False
