"""A device's results against the CPU's: every mode, every adapter family."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.merging import dense_merge
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.merge.methods.registry import DELTA_MODES, FACTOR_MODES
from lora_pack.tests.support.families import FAMILIES, VECTORS, WITH_FACTORS, State, as_dtype, named, normal
from lora_pack.tests.support.makers import down_of, up_of
from torch import Tensor

# How far results may be apart, relative to the delta: exact modes, and modes that prune or elect.
EXACT, OTHERS = 1e-6, 1e-3
# The error of a truncation over the best possible one; where that is zero, relative to the delta.
MAX_EXCESS, NOTHING = 1.01, 1e-6
# At most this share of a mask may differ, because elements at the threshold may flip. Random masks must be equal.
MAX_FLIPPED = 5e-4
FULL, DENSITY, SEED = 10_000, 0.4, 7
INPUTS = {torch.float32: 0.8, torch.float16: -0.7, torch.bfloat16: 1.3}


def large_lora(seed: int) -> State:
    """As large as a module of a real model, so that the device uses its kernels for large matrices."""
    up, down = normal(seed, 1280, 32) / 36, normal(seed + 1, 32, 640) / 25
    return named("lora_unet_down_blocks_2_attentions_0_proj_out", 16.0, lora_up__weight=up, lora_down__weight=down)


LARGE = "large LoRA"
SAMPLES: dict[str, Callable[[int], State]] = {**FAMILIES, LARGE: large_lora}
WITHOUT_FACTORS = set(SAMPLES) - set(WITH_FACTORS) - set(VECTORS) - {LARGE}


@dataclass(frozen=True)
class Operation:
    run: Callable[[list[Lora], Compute], Lora]
    within: float  # allowed distance to the CPU's result, relative to the delta
    needs_factors: bool = False
    rank: int = 0  # if truncated: the result must be near the CPU's, or as good
    small: bool = False  # slow at full rank, so not run on the large sample


def _merging(mode: str, rank: int = FULL) -> Callable[[list[Lora], Compute], Lora]:
    if mode in FACTOR_MODES:
        return lambda loras, compute: merge_factors(loras, mode, DENSITY, SEED, compute)
    return lambda loras, compute: merge_deltas(loras, mode, DENSITY, rank, rank, SEED, compute)


def _resizing(method: str) -> Callable[[list[Lora], Compute], Lora]:
    value = 3.0 if method == "sv_ratio" else 0.8
    return lambda loras, compute: resize(loras[0], 3, 3, method, value, compute)


OPERATIONS: dict[str, Operation] = {
    **{mode: Operation(_merging(mode), OTHERS, needs_factors=mode != "concat") for mode in FACTOR_MODES},
    "concat": Operation(_merging("concat"), EXACT),
    "add_svd": Operation(_merging("add_svd"), EXACT),
    **{mode: Operation(_merging(mode), OTHERS, small=True) for mode in DELTA_MODES if mode != "add_svd"},
    **{f"{mode} at rank 4": Operation(_merging(mode, 4), OTHERS, rank=4) for mode in DELTA_MODES},
    **{f"resize {method}": Operation(_resizing(method), EXACT) for method in METHODS},
}


@dataclass
class Comparison:
    """The worst over all samples."""

    operation: str
    distance: float = 0.0  # to the CPU's result, relative to the delta
    allowed: float = 0.0
    excess: float = 0.0  # error of a truncated dense delta over the CPU's; 0 if none was truncated
    flipped: float = 0.0  # share of a mask's elements that the CPU decided differently
    worst: str = ""
    on_cpu: int = 0  # modules that the device left to the CPU

    @property
    def good(self) -> bool:
        near = self.distance <= self.allowed or 0 < self.excess <= MAX_EXCESS
        return near and self.flipped <= (0.0 if "dare" in self.operation else MAX_FLIPPED) and not self.on_cpu


@cache
def inputs(sample: str) -> list[Lora]:
    found = []
    for number, (dtype, strength) in enumerate(INPUTS.items(), 1):
        lora = from_state_dict(as_dtype(SAMPLES[sample](100 * number), dtype), f"lora{number}")
        found.append(lora.with_strengths(strength, strength))
    return found


def compare(operation: str, device: torch.device) -> Comparison:
    """Run one operation on a device and on the CPU, for every sample that it can work on."""
    how = OPERATIONS[operation]
    found = Comparison(operation, allowed=how.within)
    for sample in SAMPLES:
        if (how.needs_factors and sample in WITHOUT_FACTORS) or (how.small and sample == LARGE):
            continue
        with _masks() as masks, left_to_cpu() as left:
            there = how.run(inputs(sample), Compute(device))
            there_masks = masks.copy()
            masks.clear()
            here = how.run(inputs(sample), Compute())
        found.on_cpu += len(left)
        _compare_masks(found, there_masks, masks, there, here, how)
        for key, module in here.modules.items():
            expected, got = module.dense().double(), there.modules[key].dense().double()
            size = float(expected.norm())
            distance = float((got - expected).norm()) / size if size else float(got.norm())
            if distance > found.distance:
                found.distance, found.worst = distance, sample
            if how.rank and masks:
                whole = masks[0].double()
                best, error = float((expected.flatten(1) - whole).norm()), float((got.flatten(1) - whole).norm())
                if best > NOTHING * float(whole.norm()):
                    found.excess = max(found.excess, error / best)
    return found


def _compare_masks(found: Comparison, there: list[Tensor], here: list[Tensor], lora: Lora, other: Lora, how: Operation):
    pairs = list(zip(there, here, strict=True))
    if how.needs_factors:
        for key, module in lora.modules.items():
            twin = other.modules[key]
            if isinstance(module, LoraModule) and isinstance(twin, LoraModule):
                pairs += [
                    (up_of(module), up_of(twin)),
                    (down_of(module), down_of(twin)),
                ]
    for one, two in pairs:
        if one.shape == two.shape:
            found.flipped = max(found.flipped, float(((one != 0) != (two != 0)).double().mean()))


@contextmanager
def _masks() -> Iterator[list[Tensor]]:
    """Collects the merged dense deltas of the merges inside."""
    seen: list[Tensor] = []
    original = dense_merge.merged_delta

    def noted(*arguments, **options):
        dense, total = original(*arguments, **options)
        seen.append(dense.cpu().clone())
        return dense, total

    dense_merge.merged_delta = noted
    try:
        yield seen
    finally:
        dense_merge.merged_delta = original


@contextmanager
def left_to_cpu() -> Iterator[list[str]]:
    """Collects the log messages about modules that ran on the CPU instead of the device."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("lora_pack.merge.compute.context")
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)
