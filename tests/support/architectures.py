"""Architectures for the tests of names: the tables by name, the modules that a model of each has, and some names."""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import cache

import pytest
from lora_pack.merge.names import (
    ARCHITECTURES,
    Architecture,
    RowRange,
    Style,
    Target,
    candidates,
)
from lora_pack.merge.names.patterns import block_list, fill

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
STYLES: tuple[Style, ...] = ("kohya", "peft", "comfyui")
Modules = dict[str, tuple[int, ...]]


def rows_of(weight: str, start: str, stop: str) -> Target:
    return Target(weight, RowRange(Fraction(start), Fraction(stop)))


each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)


CLIP = "text_model.encoder.layers.3.self_attn.q_proj"
CLIP_FLAT = CLIP.replace(".", "_")
T5 = "encoder.block.3.layer.0.SelfAttention.q"
T5_FLAT = T5.replace(".", "_")
UNET_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
UNET_OWN = "input_blocks.4.1.transformer_blocks.0.attn1.to_q"


@cache
def weights_of(architecture: Architecture, every_block: bool = False) -> list[tuple[str, dict[str, str]]]:
    """Every weight's pattern with numbers: of all blocks, or of the first, the second and the last."""
    found: list[tuple[str, dict[str, str]]] = []
    for pattern in architecture.weights:
        values: dict[str, list[int]] = {"n": [0, 1, 2], "m": [0, 1]}
        if "{b}" in pattern:
            count = architecture.blocks[block_list(pattern)]
            values["b"] = list(range(count)) if every_block else sorted({0, 1, count - 1} & set(range(count)))
        used = [placeholder for placeholder in values if f"{{{placeholder}}}" in pattern]
        for chosen in itertools.product(*(values[placeholder] for placeholder in used)):
            numbers = dict(zip(used, map(str, chosen), strict=True))
            if architecture.own_paths.find(fill(pattern, numbers).replace(".", "_")) == (pattern, numbers):
                found.append((pattern, numbers))  # otherwise a pattern with fewer placeholders matches this path
    return found


@cache
def modules_of(architecture: Architecture, every_block: bool = False) -> Modules:
    """All linear layers with a known shape, by their own path under `diffusion_model.`."""
    return {
        "diffusion_model." + fill(pattern, numbers): architecture.shapes[pattern]
        for pattern, numbers in weights_of(architecture, every_block)
        if pattern in architecture.shapes
    }


@cache
def candidates_of_all(architecture: Architecture) -> tuple[Architecture, ...]:
    return candidates(modules_of(architecture, every_block=True))
