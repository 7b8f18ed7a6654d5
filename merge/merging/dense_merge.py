"""Merging the dense deltas of one weight, for modes that drop or elect elements.

The deltas are never in memory all at once. Each is computed from its LoRA's factors in blocks of rows, as often as it
is needed: for its mask (see methods/sparsify.py), and again for the merge, which takes the same block of every LoRA at
a time. Only the merged delta is a whole matrix. It is then truncated to the rank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..compute.context import Compute
from ..compute.devices import float64_device, on_device
from ..methods.blocked_matrix import BlockedMatrix, Rows
from ..numerics import conditioning
from ..numerics.blocking import row_blocks, squared_norm
from ..numerics.buffers import ReusableBuffer
from ..numerics.dense_svd import truncate_dense
from ..numerics.truncated import Truncated
from .matching import WeightGroup
from .merge_loop import MergeSettings
from .subspace_start import subspace_start


def truncated_dense_merge(
    group: WeightGroup, settings: MergeSettings, rank: int, compute: Compute, buffer: ReusableBuffer
) -> Truncated | None:
    """The merged delta of a weight, truncated to a rank; None when it is zero. ``buffer`` has room for the delta."""
    merged, total = merged_delta(group, settings, compute, buffer)
    rank = min(rank, group.rows, group.columns)
    start, noise = subspace_start(group, rank, compute.device)
    return truncate_dense(merged, rank, start, noise, compute.check, total)


def merged_delta(
    group: WeightGroup, settings: MergeSettings, compute: Compute, buffer: ReusableBuffer
) -> tuple[Tensor, float]:
    """The merged delta as a dense float32 matrix (m, n), in ``buffer`` on a CPU, and its squared norm."""
    deltas = [_blocked_delta(group, contribution.adapter, compute, buffer) for contribution in group.contributions]
    masks = [
        settings.mask(delta, group.weight, contribution.input_index, "delta")
        for contribution, delta in zip(group.contributions, deltas, strict=True)
    ]
    merged = _empty_delta(group, compute.device, buffer)  # the masks exist, so the buffer is free for the result
    strengths = [contribution.strength for contribution in group.contributions]
    consensus = settings.method.consensus
    assert consensus is not None
    masked = [map(mask, delta.blocks()) for mask, delta in zip(masks, deltas, strict=True)]
    total = 0.0
    for (start, stop), *blocks in zip(deltas[0].bounds, *masked, strict=True):
        merged[start:stop] = consensus(blocks, strengths)
        total += squared_norm(merged[start:stop])
    return merged, total


def _blocked_delta(group: WeightGroup, adapter: Adapter, compute: Compute, buffer: ReusableBuffer) -> BlockedMatrix:
    bounds = list(row_blocks(group.rows, group.columns, compute.device))
    rows = _delta_rows(adapter, compute.device)
    return BlockedMatrix(
        rows, (group.rows, group.columns), bounds, compute.device, compute.check, scratch=buffer.floats
    )


def _empty_delta(group: WeightGroup, device: torch.device, buffer: ReusableBuffer) -> Tensor:
    """An uninitialised float32 matrix for the delta of a weight."""
    if device.type == "cpu":
        return buffer.floats(group.rows * group.columns).view(group.rows, group.columns)
    return torch.empty(group.rows, group.columns, dtype=torch.float32, device=device)


def _delta_rows(adapter: Adapter, device: torch.device) -> Rows:
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
