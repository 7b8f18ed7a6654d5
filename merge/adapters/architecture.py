"""Which model a LoRA is for."""

from __future__ import annotations

from ..names import Architecture, candidates, recognise
from .base import Lora


def architectures_of(lora: Lora) -> tuple[Architecture, ...]:
    """What a LoRA can be for, the likeliest first: only its set architecture if it has one, else all that fit."""
    return (lora.architecture,) if lora.architecture is not None else candidates(weight_shapes(lora))


def architecture_of(lora: Lora) -> Architecture | None:
    """What a LoRA is for; None if it has no set architecture and its names and shapes don't decide."""
    return lora.architecture or recognise(weight_shapes(lora))


def weight_shapes(lora: Lora) -> dict[str, tuple[int, ...]]:
    """The shape of each module's parameter, by the module's name."""
    return {adapter.name: adapter.weight_shape for adapter in lora.modules.values()}
