"""Merging the dense deltas of one weight, for modes that drop or elect elements.

The deltas are never in memory all at once. Each is computed from its LoRA's factors in blocks of rows, as often as it
is needed: for its mask (see methods/sparsify.py), and again for the merge, which takes the same block of every LoRA at
a time. Only the merged delta is a whole matrix. It is then truncated to the rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..compute.context import Compute
from ..methods.blocked_matrix import BlockedMatrix
from ..methods.kernels import Blockwise, Elementwise
from ..numerics.blocking import row_blocks, squared_norm
from ..numerics.buffers import ReusableBuffer
from ..numerics.dense_svd import truncate_dense
from ..numerics.truncated import Truncated
from .delta_rows import delta_rows
from .matching import WeightGroup
from .settings import MergeSettings
from .subspace_start import subspace_start


def truncated_dense_merge(
    group: WeightGroup,
    kernel: Elementwise | Blockwise,
    settings: MergeSettings,
    rank: int,
    compute: Compute,
    buffer: ReusableBuffer,
) -> Truncated | None:
    """The merged delta of a weight, truncated to a rank; None when it is zero. ``buffer`` has room for the delta."""
    merged, total = merged_delta(group, kernel, settings, compute, buffer)
    rank = min(rank, group.rows, group.columns)
    start, noise = subspace_start(group, rank, compute.device)
    return truncate_dense(merged, rank, start, noise, compute.check, total)


def merged_delta(
    group: WeightGroup,
    kernel: Elementwise | Blockwise,
    settings: MergeSettings,
    compute: Compute,
    buffer: ReusableBuffer,
) -> tuple[Tensor, float]:
    """The merged delta as a dense float32 matrix (m, n), in ``buffer`` on a CPU, and its squared norm."""
    deltas = [_blocked_delta(group, contribution.adapter, compute, buffer) for contribution in group.contributions]
    strengths = [contribution.strength for contribution in group.contributions]
    merge_blocks = kernel.fit(deltas, strengths, settings.of_method, settings.streams(group, "delta"))
    merged = _empty_delta(group, compute.device, buffer)  # what fit found exists, so the buffer is free for the result
    total = 0.0
    for (start, stop), *blocks in zip(deltas[0].bounds, *(delta.blocks() for delta in deltas), strict=True):
        merged[start:stop] = merge_blocks(blocks)
        total += squared_norm(merged[start:stop])
    return merged, total


def _blocked_delta(group: WeightGroup, adapter: Adapter, compute: Compute, buffer: ReusableBuffer) -> BlockedMatrix:
    bounds = list(row_blocks(group.rows, group.columns, compute.device))
    rows = delta_rows(adapter, compute.device)
    return BlockedMatrix(
        rows, (group.rows, group.columns), bounds, compute.device, compute.check, scratch=buffer.floats
    )


def _empty_delta(group: WeightGroup, device: torch.device, buffer: ReusableBuffer) -> Tensor:
    """An uninitialised float32 matrix for the delta of a weight."""
    if device.type == "cpu":
        return buffer.floats(group.rows * group.columns).view(group.rows, group.columns)
    return torch.empty(group.rows, group.columns, dtype=torch.float32, device=device)
