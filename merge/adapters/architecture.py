"""Which model a LoRA is for."""

from __future__ import annotations

from ..names import Architecture, candidates, recognise
from .base import Lora


def architectures_of(lora: Lora) -> tuple[Architecture, ...]:
    """What a LoRA can be for, the likeliest first: what was decided before, else what its names and shapes fit."""
    return (lora.architecture,) if lora.architecture is not None else candidates(weight_shapes(lora))


def architecture_of(lora: Lora) -> Architecture | None:
    """What a LoRA is for; None where its names and shapes don't tell."""
    return lora.architecture or recognise(weight_shapes(lora))


def weight_shapes(lora: Lora) -> dict[str, tuple[int, ...]]:
    return {adapter.name: adapter.weight_shape for adapter in lora.modules.values()}
