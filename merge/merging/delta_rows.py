"""A contribution on a device: its factors, or rows of its delta, computed each time they are needed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..compute.devices import float64_device, on_device
from ..methods.blocked_matrix import Rows
from ..numerics import conditioning
from .fused_rows import Contribution


def factors_on(device: torch.device, contribution: Contribution) -> tuple[Tensor, Tensor]:
    """A contribution's up (m, r) and down (r, n) on a device, in their own precision if the device has it."""
    factors = contribution.adapter.factors()
    assert factors is not None
    return on_device(factors[0], device), on_device(factors[1], device)


def delta_rows(adapter: Adapter, device: torch.device) -> Rows:
    """A function that gives rows of an adapter's delta on a device, computed from the factors if it has any."""
    factors = adapter.factors()
    if factors is None:
        if device.type == "cpu":
            return adapter.rows()
        dense = on_device(adapter.dense(), device)  # moved once for all passes
        return lambda start, stop: dense[start:stop]
    up, down = (on_device(factor, float64_device(device)) for factor in factors)
    left, right = (factor.to(device) for factor in conditioning.float32_factors(up, down))
    scale = adapter.scale
    if _is_power_of_two(scale):  # rounds nothing, so it can go into the factor, which saves 3 % of a merge
        left = left * scale
        return lambda start, stop: left[start:stop] @ right
    # any other scale comes after the product, so that magnitudes that tie without it still tie
    return lambda start, stop: (left[start:stop] @ right).mul_(scale)


def _is_power_of_two(scale: float) -> bool:
    """True for powers of two and their negatives, except near float32's limits."""
    mantissa, exponent = math.frexp(scale)
    return abs(mantissa) == 0.5 and abs(exponent) < 32
