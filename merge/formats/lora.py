"""LoRA and LoCon: two factors, under the seven pairs of keys that ComfyUI loads, with kohya's Tucker core folded in.

The pairs and their order are those of comfy/weight_adapter/lora.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..adapters.base import LoraModule
from ..errors import DAMAGED, INCOMPLETE, LoraError
from ..lazy import LazyTensor
from ..numerics.finite import require_fits
from .checks import ALPHA, read_alpha, require_float, shape_text
from .module_tensors import ModuleTensors

NAME = "LoRA"
# (up, down): the first is kohya's, the only one with a core (lora_mid)
PAIRS = (
    (".lora_up.weight", ".lora_down.weight"),
    ("_lora.up.weight", "_lora.down.weight"),
    (".lora_B.weight", ".lora_A.weight"),
    (".lora.up.weight", ".lora.down.weight"),
    (".lora_B", ".lora_A"),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    (".lora_B.default.weight", ".lora_A.default.weight"),
)
UP, DOWN = PAIRS[0]
MID = ".lora_mid.weight"
RESHAPE = ".reshape_weight"
SUFFIXES = (*(suffix for pair in PAIRS for suffix in pair), MID, RESHAPE)


def read(module: ModuleTensors) -> list[LoraModule]:
    """The adapters of a module: one for each pair of up and down. These stay in the file.

    A core ``mid`` (r, r, kh, kw) is folded into ``down`` exactly, in memory: einsum('mnkl,nj->mjkl', mid, down)
    (comfy/weight_adapter/lora.py contracts the same three).
    Raises LoraError for missing factors, shapes that disagree, and alphas that aren't a single finite number.
    """
    complete = [pair for pair in PAIRS if pair[0] in module.lazy and pair[1] in module.lazy]
    unpaired = [
        suffix
        for suffix in module.lazy
        if suffix != ALPHA
        and not any(suffix in pair for pair in complete)
        and not (suffix in (MID, RESHAPE) and complete)
    ]
    if MID in module.lazy and UP not in module.lazy:
        unpaired.append(MID)
    if unpaired:
        raise LoraError(f"{module.source} has {unpaired[0].lstrip('._')} without its counterpart. {INCOMPLETE}")
    return [_module(module, up, down) for up, down in complete]


def _module(module: ModuleTensors, up_suffix: str, down_suffix: str) -> LoraModule:
    source = module.source
    up, down = module.lazy[up_suffix], module.lazy[down_suffix]
    mid = module.values.get(MID) if up_suffix == UP else None
    for tensor, what in ((up, "up factor"), (down, "down factor"), (mid, "lora_mid")):
        require_float(tensor, f"{source}: its {what}")
    if len(up.shape) < 2 or len(down.shape) < 2 or 0 in up.shape or 0 in down.shape:
        raise LoraError(f"{source} has factors without a rank: up {shape_text(up)}, down {shape_text(down)}. {DAMAGED}")
    if math.prod(up.shape[2:]) != 1:
        raise LoraError(
            f"{source} has its kernel in the up factor {shape_text(up)}, a layout that ComfyUI doesn't load either. "
            "Leave this file out."
        )
    alpha = read_alpha(module.values, down.shape[0], source)
    if mid is not None:
        folded = _fold(mid, module.values[down_suffix], source)
        # ComfyUI divides alpha by the rank of lora_down, which the core may change
        alpha *= folded.shape[0] / down.shape[0]
        up, down = LazyTensor.of(module.values[up_suffix]), LazyTensor.of(folded)
    if up.shape[1] != down.shape[0]:
        raise LoraError(
            f"{source}: its factors disagree, up {shape_text(up)} has {up.shape[1]} columns and down "
            f"{shape_text(down)} has {down.shape[0]} rows. The file is damaged or its factors are "
            "transposed: download or save it again."
        )
    up = up.reshaped((up.shape[0], down.shape[0], *(1,) * (len(down.shape) - 2)))
    return LoraModule(module.name, up, down, alpha, reshape=_read_shape(module.values.get(RESHAPE), source))


def _read_shape(shape: Tensor | None, source: str) -> tuple[int, ...] | None:
    if shape is None:
        return None
    sizes = [] if shape.ndim != 1 or shape.is_complex() else [int(size) for size in shape.tolist()]
    if not sizes or not all(0 < size < 2**31 for size in sizes):
        raise LoraError(f"{source}: its reshape_weight is not the shape of a weight. {DAMAGED}")
    return tuple(sizes)


def _fold(mid: Tensor, down: Tensor, source: str) -> Tensor:
    if mid.ndim != down.ndim or math.prod(down.shape[2:]) != 1 or mid.shape[1] != down.shape[0] or 0 in mid.shape:
        raise LoraError(
            f"{source}: its lora_mid {shape_text(mid)} does not fit its down factor {shape_text(down)}. {DAMAGED}"
        )
    folded = torch.einsum("mn...,nj->mj...", mid.float(), down.flatten(1).float())
    require_fits(folded, source)
    return folded
