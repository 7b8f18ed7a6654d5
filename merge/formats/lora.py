"""LoRA and LoCon: two factors, in the seven spellings that ComfyUI loads, with kohya's Tucker core folded in.

The spellings and their order are those of comfy/weight_adapter/lora.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..adapters.base import LaterLoraModule, LoraModule, LowRank
from ..errors import DAMAGED, INCOMPLETE, LoraError
from ..io.safetensors_file import Stored
from ..numerics.finite import require_fits
from .checks import ALPHA, read_alpha, require_float, shape_text
from .stored import later

NAME = "LoRA"
# (up, down): the first is kohya's, the only one with a core (lora_mid)
SPELLINGS = (
    (".lora_up.weight", ".lora_down.weight"),
    ("_lora.up.weight", "_lora.down.weight"),
    (".lora_B.weight", ".lora_A.weight"),
    (".lora.up.weight", ".lora.down.weight"),
    (".lora_B", ".lora_A"),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    (".lora_B.default.weight", ".lora_A.default.weight"),
)
UP, DOWN = SPELLINGS[0]
MID = ".lora_mid.weight"
RESHAPE = ".reshape_weight"
SUFFIXES = (*(suffix for pair in SPELLINGS for suffix in pair), MID, RESHAPE)


def read(name: str, tensors: Mapping[str, Tensor], source: str) -> list[LoraModule]:
    """The modules of the tensors of one prefix, by suffix: one for each spelling. ``source`` is for messages.

    A core ``mid`` (r, r, kh, kw) is folded into ``down`` exactly:
    einsum('mnkl,nj->mjkl', mid, down) (comfy/weight_adapter/lora.py contracts the same three).
    Raises LoraError for missing halves, shapes that disagree, and alphas that are no single finite number.
    """
    complete = _complete(tensors)
    unpaired = [
        suffix
        for suffix in tensors
        if suffix != ALPHA
        and not any(suffix in pair for pair in complete)
        and not (suffix in (MID, RESHAPE) and complete)
    ]
    if MID in tensors and UP not in tensors:
        unpaired.append(MID)
    if unpaired:
        raise LoraError(f"{source} has {unpaired[0].lstrip('._')} without its other half. {INCOMPLETE}")
    return [_module(name, tensors, up, down, source) for up, down in complete]


def left_in_file(module: LoraModule, number: int, members: Mapping[str, Tensor | Stored]) -> LowRank:
    """The ``number``-th module that ``read`` made of these, its factors left in the file that holds them as such."""
    up, down = (members[suffix] for suffix in _complete(members)[number])
    folded = MID in members
    if folded or not isinstance(up, Stored) or not isinstance(down, Stored):
        return module
    halves = later(up.shaped(module.up.shape)), later(down.shaped(module.down.shape))
    return LaterLoraModule(module.name, *halves, module.alpha, module.block_weight, module.reshape)


def _complete(members: Mapping[str, object]) -> list[tuple[str, str]]:
    return [pair for pair in SPELLINGS if pair[0] in members and pair[1] in members]


def _module(name: str, tensors: Mapping[str, Tensor], up_suffix: str, down_suffix: str, source: str) -> LoraModule:
    up, down = tensors[up_suffix], tensors[down_suffix]
    mid = tensors.get(MID) if up_suffix == UP else None
    for tensor, what in ((up, "up half"), (down, "down half"), (mid, "lora_mid")):
        require_float(tensor, f"{source}: its {what}")
    if up.ndim < 2 or down.ndim < 2 or 0 in up.shape or 0 in down.shape:
        raise LoraError(f"{source} has factors without rank: up {shape_text(up)}, down {shape_text(down)}. {DAMAGED}")
    if math.prod(up.shape[2:]) != 1:
        raise LoraError(
            f"{source} holds its kernel in the up half {shape_text(up)}, a layout that ComfyUI does not "
            "load either. Leave this file out."
        )
    alpha = read_alpha(tensors, down.shape[0], source)
    if mid is not None:
        folded = _fold(mid, down, source)
        # ComfyUI divides alpha by the rank of lora_down, which the core may change
        alpha *= folded.shape[0] / down.shape[0]
        down = folded
    if up.shape[1] != down.shape[0]:
        raise LoraError(
            f"{source}: its halves disagree, up {shape_text(up)} has {up.shape[1]} columns and down "
            f"{shape_text(down)} has {down.shape[0]} rows. The file is damaged or its factors are "
            "transposed: download or save it again."
        )
    up = up.reshape(up.shape[0], down.shape[0], *(1,) * (down.ndim - 2))
    return LoraModule(name, up, down, alpha, reshape=_read_shape(tensors.get(RESHAPE), source))


def _read_shape(shape: Tensor | None, source: str) -> tuple[int, ...] | None:
    if shape is None:
        return None
    sizes = [] if shape.ndim != 1 or shape.is_complex() else [int(size) for size in shape.tolist()]
    if not sizes or not all(0 < size < 2**31 for size in sizes):
        raise LoraError(f"{source}: its reshape_weight is no shape of a weight. {DAMAGED}")
    return tuple(sizes)


def _fold(mid: Tensor, down: Tensor, source: str) -> Tensor:
    if mid.ndim != down.ndim or math.prod(down.shape[2:]) != 1 or mid.shape[1] != down.shape[0] or 0 in mid.shape:
        raise LoraError(
            f"{source}: its lora_mid {shape_text(mid)} does not fit its down half {shape_text(down)}. {DAMAGED}"
        )
    folded = torch.einsum("mn...,nj->mj...", mid.float(), down.flatten(1).float())
    require_fits(folded, source)
    return folded
