"""Which layers of ComfyUI's models can be added to from outside, and which adapters."""

from __future__ import annotations

import math
from typing import Any

import comfy.utils
from torch import nn

from ..merge.adapters.base import WEIGHT, Adapter, LoraModule, Replacement
from ..merge.adapters.products import Layer
from . import comfy_bridge

# ComfyUI's function that computes an activation and the layer after it in one kernel, without calling the layer.
_FUSED = "linear_input_act"
_FUSED_LAYOUT = "TensorWiseINT8Layout"
_CONVOLUTIONS = {"Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d, "Conv3d": nn.Conv3d}


def module_at(model: nn.Module, path: str) -> Any:
    """What a model has under a path: a layer, or a bare parameter."""
    return comfy.utils.get_attr(model, path)


def layer_of(module: Any) -> Layer | None:
    """How a layer applies its weight; None if it isn't a plain linear layer or convolution.

    The layers' classes are known by their names, because those of quantised layers have other bases. A class that
    is derived from one may compute something else.
    """
    name = type(module).__name__
    if name == "Linear" and hasattr(module, "in_features") and hasattr(module, "out_features"):
        return Layer(module.in_features)
    plain = _CONVOLUTIONS.get(name)
    if plain is None or not isinstance(module, plain) or module.groups != 1 or module.padding_mode != "zeros":
        return None
    return Layer(module.in_channels, module.kernel_size, module.stride, module.padding, module.dilation)


def why_patched(adapter: Adapter, layer: Layer | None, row_range: comfy_bridge.RowRange | None) -> str | None:
    """Why an adapter has to be patched into the layer's weight; None if it can be added beside it."""
    if adapter.parameter != WEIGHT or len(adapter.weight_shape) == 1:
        return "biases and norms"
    if adapter.is_weight_dependent or isinstance(adapter, Replacement):
        return adapter.family
    if isinstance(adapter, LoraModule) and adapter.reshape is not None:
        return "widened layers"
    if layer is None or (row_range is not None and row_range[0] != 0):
        return "layers of other kinds"
    return None


def fits(adapter: Adapter, module: Any, layer: Layer, row_range: comfy_bridge.RowRange | None) -> bool:
    """Whether the adapter's delta has the shape of the layer's weight, or of these rows of it."""
    rows = row_range[2] if row_range is not None else getattr(module, "out_features", None) or module.out_channels
    shape = adapter.weight_shape
    return shape[0] == rows and math.prod(shape[1:]) == layer.inputs * math.prod(layer.kernel)


def skips_forward(model: nn.Module, path: str) -> bool:
    """Whether ComfyUI computes the layer without calling it, so that nothing can be added to its output.

    It does so for int8 layers that come after an activation in the feed-forward parts of some models (0.33). They
    narrow their input; the layers before the activation widen it and are called.
    """
    module = module_at(model, path)
    if getattr(module.weight, "_layout_cls", None) != _FUSED_LAYOUT or module.in_features < module.out_features:
        return False
    *parents, _ = path.split(".")
    near = [".".join(parents[:end]) for end in range(max(1, len(parents) - 1), len(parents) + 1)]
    forwards = [getattr(type(module_at(model, parent)).forward, "__code__", None) for parent in near]
    return any(code is not None and _FUSED in code.co_names for code in forwards)
