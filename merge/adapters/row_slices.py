"""Adapters of some rows of a weight: cut out of one of the whole weight, set into it, or with its halves swapped.

A delta's rows are its up factor's rows, so all of it is exact and keeps the rank.
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


def cut_out(adapter: Adapter, name: str, start: Fraction, stop: Fraction) -> Adapter:
    """The rows start to stop (shares of all its rows) of an adapter, under a name of their own."""
    rows = adapter.weight_shape[0]
    first, last = int(start * rows), int(stop * rows)
    return _with_rows(adapter, name, last - first, lambda matrix: matrix[first:last])


def set_into(adapter: Adapter, name: str, start: Fraction, rows: int) -> Adapter:
    """An adapter of some rows as one of the whole weight of this many rows, under the whole weight's name."""
    first = int(start * rows)

    def pad(matrix: Tensor) -> Tensor:
        whole = torch.zeros(rows, *matrix.shape[1:], dtype=matrix.dtype)
        whole[first : first + matrix.shape[0]] = matrix
        return whole

    return _with_rows(adapter, name, rows, pad)


def swap_halves(adapter: Adapter, name: str) -> Adapter:
    """An adapter with the two halves of its rows in the other order."""
    rows = adapter.weight_shape[0]
    return _with_rows(adapter, name, rows, lambda matrix: torch.cat([matrix[rows // 2 :], matrix[: rows // 2]]))


def rows_of(adapter: Adapter, meaning: Target) -> Fraction:
    """How many rows the whole weight has, of which the adapter has those that its name means."""
    return adapter.weight_shape[0] / (meaning.stop - meaning.start)


def _with_rows(adapter: Adapter, name: str, rows: int, change: Callable[[Tensor], Tensor]) -> Adapter:
    if adapter.has_factors:
        module = as_low_rank(adapter)
        up, shape = module.up, (rows, *module.up.shape[1:])
        changed = LazyTensor(up.dtype, shape, lambda: change(up.materialize()).contiguous(), up.is_finite)
        return LoraModule(name, changed, module.down, module.alpha, module.block_weight, module.reshape)
    value = change(adapter.dense()).reshape(rows, *adapter.weight_shape[1:]).contiguous()
    require_fits(value, f"Module {adapter.name}")
    return Difference(name, LazyTensor.of(value), adapter.parameter, adapter.block_weight)
