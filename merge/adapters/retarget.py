"""Brings an adapter of some rows of a weight to other rows of it. Exact, at the same rank: a delta's rows are its up
factor's rows.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from ..lazy import LazyTensor
from ..names import Target
from ..numerics.finite import require_fits
from .base import Adapter, Difference, LoraModule
from .combine import as_low_rank


def retarget(adapter: Adapter, present: Target, wanted: Target, name: str) -> Adapter:
    """An adapter with the target ``present`` as one with the target ``wanted``, another part of the same weight.

    The adapter itself if the two are the same, otherwise a new one called ``name``. One of the two row ranges must
    contain the other: surplus rows are left out, missing rows become zeros.
    """
    if (present.rows, present.swapped) == (wanted.rows, wanted.swapped):
        return adapter
    if present.swapped:
        adapter = _swap_halves(adapter, name)
    if present.rows != wanted.rows and present.rows.contains(wanted.rows):
        kept = wanted.rows.within(present.rows)
        adapter = _slice_rows(adapter, name, kept.start, kept.stop)
    elif present.rows != wanted.rows:
        wanted_rows = int(rows_of(adapter, present) * wanted.rows.size)
        adapter = _pad_rows(adapter, name, present.rows.within(wanted.rows).start, wanted_rows)
    if wanted.swapped:
        adapter = _swap_halves(adapter, name)
    return adapter


def rows_of(adapter: Adapter, target: Target) -> Fraction:
    """How many rows the whole weight has, if the adapter has those of the target."""
    return adapter.weight_shape[0] / target.rows.size


def _slice_rows(adapter: Adapter, name: str, start: Fraction, stop: Fraction) -> Adapter:
    """An adapter of the rows from ``start`` to ``stop``, in fractions of this adapter's rows."""
    rows = adapter.weight_shape[0]
    first, last = int(start * rows), int(stop * rows)
    return _with_rows(adapter, name, last - first, lambda matrix: matrix[first:last])


def _pad_rows(adapter: Adapter, name: str, start: Fraction, rows: int) -> Adapter:
    """An adapter of this many rows, zero except for this adapter's, which begin at the fraction ``start`` of them."""
    first = int(start * rows)

    def pad(matrix: Tensor) -> Tensor:
        whole = torch.zeros(rows, *matrix.shape[1:], dtype=matrix.dtype)
        whole[first : first + matrix.shape[0]] = matrix
        return whole

    return _with_rows(adapter, name, rows, pad)


def _swap_halves(adapter: Adapter, name: str) -> Adapter:
    """The adapter with the two halves of its rows exchanged."""
    rows = adapter.weight_shape[0]
    return _with_rows(adapter, name, rows, lambda matrix: torch.cat([matrix[rows // 2 :], matrix[: rows // 2]]))


def _with_rows(adapter: Adapter, name: str, rows: int, change: Callable[[Tensor], Tensor]) -> Adapter:
    if adapter.has_factors:
        module = as_low_rank(adapter)
        up, shape = module.up, (rows, *module.up.shape[1:])
        changed = LazyTensor(up.dtype, shape, lambda: change(up.materialize()).contiguous(), up.is_finite)
        return LoraModule(name, changed, module.down, module.alpha, module.block_weight, module.reshape)
    value = change(adapter.dense()).reshape(rows, *adapter.weight_shape[1:]).contiguous()
    require_fits(value, f"Module {adapter.name}")
    return Difference.of(name, value, adapter.parameter, adapter.block_weight)
