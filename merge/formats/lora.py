"""LoRA and LoCon: two factors, in the seven spellings that ComfyUI loads, with kohya's Tucker core folded in.

The spellings and their order are those of comfy/weight_adapter/lora.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..lora import LoraError, LoraModule

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
ALPHA = ".alpha"
SUFFIXES = (*(suffix for pair in SPELLINGS for suffix in pair), MID)


def read(name: str, tensors: Mapping[str, Tensor], source: str) -> LoraModule:
    """The module of the tensors of one prefix, by suffix. ``source`` names file and module in messages.

    A core ``mid`` (r, r, kh, kw) is folded into ``down`` exactly:
    einsum('mnkl,nj->mjkl', mid, down) (comfy/weight_adapter/lora.py contracts the same three).
    Raises LoraError for missing halves, shapes that disagree, and alphas that are no single finite number.
    """
    complete = [pair for pair in SPELLINGS if pair[0] in tensors and pair[1] in tensors]
    halves = [suffix for suffix in tensors if suffix not in (MID, ALPHA) and not any(suffix in p for p in complete)]
    if halves or not complete:
        have = halves[0] if halves else MID
        raise LoraError(f"{source} has {have.lstrip('._')} without its other half. The file is incomplete.")
    modules = [
        _module(
            name,
            tensors[up],
            tensors[down],
            tensors.get(ALPHA),
            tensors.get(MID) if up == UP else None,
            source,
        )
        for up, down in complete
    ]
    if MID in tensors and UP not in tensors:
        raise LoraError(f"{source} has a lora_mid without lora_up and lora_down. The file is incomplete.")
    joined = modules[0]
    for module in modules[1:]:
        joined = join(joined, module, source)
    return joined


def write(module: LoraModule) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module by suffix; the block weight goes into the alpha, which is float32 whatever the rest."""
    yield UP, module.up
    yield DOWN, module.down
    yield ALPHA, torch.tensor(module.alpha * module.block_weight, dtype=torch.float32)


def join(first: LoraModule, second: LoraModule, source: str) -> LoraModule:
    """Two adapters of one weight as one: their factors side by side, exact. Keeps the first's name and shape."""
    if (
        first.flat_up().shape[0] != second.flat_up().shape[0]
        or first.flat_down().shape[1] != second.flat_down().shape[1]
    ):
        raise LoraError(
            f"{source} adapts a weight of shape {second.weight_shape} that {first.name} takes for {first.weight_shape}."
        )
    ups = [module.flat_up().float() * module.scale for module in (first, second)]
    downs = [module.flat_down().float() for module in (first, second)]
    rank = first.rank + second.rank
    up = torch.cat(ups, 1).reshape(first.up.shape[0], rank, *first.up.shape[2:])
    down = torch.cat(downs).reshape(rank, *first.down.shape[1:])
    return LoraModule(first.name, up, down, float(rank), first.block_weight)


def _module(name: str, up: Tensor, down: Tensor, alpha: Tensor | None, mid: Tensor | None, source: str) -> LoraModule:
    for half, tensor in (("up", up), ("down", down), ("mid", mid)):
        if tensor is not None and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise LoraError(f"{source}: its {half} half is stored as {kind}; quantised LoRAs can't be merged.")
    if up.ndim < 2 or down.ndim < 2 or 0 in up.shape or 0 in down.shape:
        raise LoraError(
            f"{source} has factors without rank: up {_shape(up)}, down {_shape(down)}. The file is damaged."
        )
    if math.prod(up.shape[2:]) != 1:
        raise LoraError(
            f"{source} holds its kernel in the up half {_shape(up)}, a layout that ComfyUI does not load either."
        )
    value = float(down.shape[0]) if alpha is None else _alpha(alpha, source)
    if mid is not None:
        # ComfyUI divides alpha by the rank of lora_down, which the core may change
        folded = _fold(mid, down, source)
        value *= folded.shape[0] / down.shape[0]
        down = folded
    if up.shape[1] != down.shape[0]:
        raise LoraError(
            f"{source}: its halves disagree, up {_shape(up)} has {up.shape[1]} columns and down {_shape(down)} has "
            f"{down.shape[0]} rows. The file is damaged or its factors are transposed."
        )
    rank = down.shape[0]
    up = up.reshape(up.shape[0], rank, *(1,) * (down.ndim - 2))
    return LoraModule(name, up, down, value)


def _alpha(alpha: Tensor, source: str) -> float:
    if alpha.numel() != 1 or alpha.is_complex():
        raise LoraError(f"{source}: its alpha holds {alpha.numel()} numbers instead of one. The file is damaged.")
    value = float(alpha.item())
    if not math.isfinite(value):
        raise LoraError(f"{source}: its alpha is {value}. The file is damaged.")
    return value


def _fold(mid: Tensor, down: Tensor, source: str) -> Tensor:
    if mid.ndim != down.ndim or math.prod(down.shape[2:]) != 1 or mid.shape[1] != down.shape[0]:
        raise LoraError(f"{source}: its lora_mid {_shape(mid)} does not fit its down half {_shape(down)}.")
    return torch.einsum("mn...,nj->mj...", mid.float(), down.flatten(1).float())


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "(a single number)"
