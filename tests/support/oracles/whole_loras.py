"""What the oracles expect of merges of whole LoRAs: strengths, block weights, random streams and rules together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.merging.key_resolver import resolver_for
from lora_pack.merge.methods.mask_stream import MaskStream
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import at
from lora_pack.tests.support.masking import masks_for, plain

from . import modes
from .canonical import Array, norm
from .strength import apply_strength_rule, apply_weights

NO_PARAMETERS: Mapping[str, float] = MappingProxyType({})


def reweighted(loras: Sequence[Lora], rule: str) -> list[Lora]:
    """The LoRAs at the strengths that a rule of weights gives them."""
    norms = [norm(np.array([norm(oracle.module_delta(m)) for m in lora.modules.values()])) for lora in loras]
    strengths = apply_weights(rule, [(lora.strength_model, lora.strength_clip) for lora in loras], norms)
    return [at(lora, *pair) for lora, pair in zip(loras, strengths, strict=True)]


def weighted_deltas(loras: Sequence[Lora], name: str, weights: str = "as given") -> list[Array]:
    """D_t of each LoRA that adapts the weight at a strength other than 0, its strength inside."""
    return [part.strength * oracle.delta(part) for part in oracle.parts(reweighted(loras, weights))[name]]


def expected_delta(
    mode: str,
    loras: Sequence[Lora],
    name: str,
    density: float = 1.0,
    seed: int = 0,
    *,
    parameters: Mapping[str, float] = NO_PARAMETERS,
    strength_rule: str = "of the mode",
    weights: str = "as given",
) -> Array:
    """What a merge in any SVD mode adds to one weight, before truncation."""
    adapters = oracle.parts(reweighted(loras, weights))[name]
    if mode in modes.MODES:
        deltas, strengths = [oracle.delta(a) for a in adapters], [a.strength for a in adapters]
        draw = stream(mode, loras, name, seed, [a.input_index for a in adapters])
        merged = modes.merge(mode, deltas, strengths, density=density, parameters=parameters, draw=draw)
    else:
        merged = oracle.merged_delta(plain(mode), adapters, density, masks_for(mode, seed, loras, name, density))
    return apply_strength_rule(strength_rule, merged, weighted_deltas(loras, name, weights))


def stream(mode: str, loras: Sequence[Lora], name: str, seed: int, input_indices: Sequence[int]) -> modes.Draw:
    """The core's stream of 32-bit integers as numbers in [0, 1): row by row over the core or the delta."""
    weight = resolver_for(loras).resolve(name).weight
    side = "core" if mode == "core_dare_ties_svd" else "delta"

    def draw(t: int, shape: tuple[int, ...]) -> Array:
        integers = MaskStream(seed, weight, input_indices[t], side).integers(0, int(np.prod(shape)))
        return integers.reshape(shape) / 2.0**32

    return draw
