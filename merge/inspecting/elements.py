"""Comparing two deltas element by element: do their signs agree, and, without factors, their inner product."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..adapters.base import Adapter, Rows
from ..numerics.blocking import row_blocks
from ..numerics.product import Product

# At least this many elements of each weight are compared, or all of a smaller one.
SAMPLED_ELEMENTS = 2**16
SEED = 0


@dataclass(frozen=True)
class RowSums:
    """Squared norms, inner product and sign conflict of two deltas."""

    energies: tuple[float, float]
    inner: float
    sign_conflict: float


def sign_conflict(first: Product, second: Product, weight: float) -> float:
    """The share of elements whose signs differ, in a sample of rows that is the same for all products of this shape.

    ``weight``: the product of the two deltas' own weights, of which only the sign counts.
    """
    rows = _sampled_rows(first.up.shape[0], first.down.shape[1])
    return _share_negative(first.rows(rows).mul_(second.rows(rows)), weight)


def compare_rows(first: Adapter, second: Adapter, weight: float) -> RowSums:
    """Compare all elements of two deltas by blocks of rows. Strengths count for the signs only, as ``weight``."""
    rows = [_rows_of(adapter) for adapter in (first, second)]
    height, columns = first.weight_shape[0], math.prod(first.weight_shape[1:])
    energies, inner, conflict = (0.0, 0.0), 0.0, 0.0
    for start, stop in row_blocks(height, columns):
        a, b = (read(start, stop) for read in rows)
        energies = (energies[0] + float(a.square().sum()), energies[1] + float(b.square().sum()))
        products = a.mul_(b)
        inner += float(products.sum())
        conflict += _share_negative(products, weight) * (stop - start) / height
    return RowSums(energies, inner, conflict)


def _rows_of(adapter: Adapter) -> Rows:
    """A function that returns rows of an adapter's delta as a new matrix, from the factors if it has any."""
    factors = adapter.factors()
    if factors is None:
        rows = adapter.rows()
        return lambda start, stop: rows(start, stop).to(torch.float64, copy=True)
    up, down = factors[0].double() * adapter.scale, factors[1].double()
    return lambda start, stop: up[start:stop] @ down


def _share_negative(products: Tensor, weight: float) -> float:
    """The share of elements that are negative once multiplied by the weight."""
    negative = products < 0 if weight >= 0 else products > 0
    return int(torch.count_nonzero(negative)) / products.numel()


@lru_cache(maxsize=64)
def _sampled_rows(rows: int, columns: int) -> Tensor:
    """The indices of the compared rows of a matrix of this shape, in order."""
    count = min(rows, math.ceil(SAMPLED_ELEMENTS / columns))
    return torch.randperm(rows, generator=torch.Generator().manual_seed(SEED))[:count].sort().values
