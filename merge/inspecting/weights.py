"""The numbers of one weight: norm, rank, effective rank and the ranks that hold most of its energy.

Nothing is approximated. A low-rank delta is measured through its factors, a Kronecker product through its two parts,
and only a delta without useful factors is formed. What can't be measured is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adapters.base import Adapter, Replacement
from ..formats.lokr import LokrModule
from ..numerics.blocking import row_blocks, squared_norm
from ..numerics.product import Product, product_of
from ..numerics.spectrum import effective_rank, kronecker_energies, numerical_rank, rank_holding

# Shares of the energy for which the ranks are given, in percent.
PERCENTS = (90, 95, 99)
# The shorter side of a delta without factors, up to which its spectrum is computed: a quarter of a second at 1024.
MAX_DENSE_SIDE = 1024


@dataclass(frozen=True)
class WeightNumbers:
    """``name`` is the module's. ``rank`` is that of the factors, or numerical where there are none.

    ``norm`` is the Frobenius norm of the delta with strength and block weight; None: not measured. The other numbers
    are also None for a delta that is zero. ``rank_for`` has one rank for each of PERCENTS. ``scale`` is alpha / rank,
    None where the family has none. ``elements`` is the weight's size.
    """

    name: str
    family: str
    norm: float | None = None
    rank: int | None = None
    effective_rank: float | None = None
    rank_for: tuple[int, ...] | None = None
    scale: float | None = None
    elements: int = 0

    @property
    def energy(self) -> float:
        """The squared norm; 0 if it isn't measured."""
        return 0.0 if self.norm is None else self.norm**2


@dataclass(frozen=True, eq=False)
class WeightedProduct:
    """A delta: ``weight`` times ``product``."""

    product: Product
    weight: float

    @property
    def energies(self) -> Tensor:
        return self.product.energies * self.weight**2


def measure(adapter: Adapter, strength: float, product: WeightedProduct | None) -> tuple[WeightNumbers, Tensor | None]:
    """The numbers of an adapter at a strength, and its spectrum (energies, descending), None if it isn't measured.

    ``product`` is ``as_product(adapter)``.
    """
    elements = math.prod(adapter.weight_shape)
    if not is_measurable(adapter):
        return WeightNumbers(adapter.name, adapter.family, elements=elements), None
    own_rank = adapter.rank if adapter.has_factors else None
    scale = adapter.scale if adapter.has_factors else None
    energies = _kronecker(adapter) if isinstance(adapter, LokrModule) else product and product.energies
    if energies is None:
        norm = abs(strength) * math.sqrt(_dense_energy(adapter))
        return WeightNumbers(adapter.name, adapter.family, norm, own_rank, scale=scale, elements=elements), None
    energies = energies * strength**2
    total = float(energies.sum())
    rank = numerical_rank(energies) if own_rank is None else own_rank
    if total == 0:
        return WeightNumbers(adapter.name, adapter.family, 0.0, rank, scale=scale, elements=elements), energies
    numbers = WeightNumbers(
        adapter.name,
        adapter.family,
        math.sqrt(total),
        rank,
        effective_rank(energies),
        tuple(rank_holding(energies, percent / 100) for percent in PERCENTS),
        scale,
        elements,
    )
    return numbers, energies


def is_measurable(adapter: Adapter) -> bool:
    """Whether the adapter's change is known without the model's weight."""
    return not (adapter.is_weight_dependent or isinstance(adapter, Replacement))


def as_product(adapter: Adapter) -> WeightedProduct | None:
    """An adapter's delta as a product, block weight not counted; None if it is too large without factors or unknown.

    A delta without factors is a product with the identity, a vector one with a single column.
    """
    if not is_measurable(adapter):
        return None
    factors = adapter.factors()
    if factors is not None:
        return WeightedProduct(product_of(*factors), adapter.scale)
    rows, columns = adapter.weight_shape[0], math.prod(adapter.weight_shape[1:])  # a vector has one column
    if min(rows, columns) > MAX_DENSE_SIDE:
        return None
    dense = adapter.dense().reshape(rows, columns)
    pair = (torch.eye(rows), dense) if rows <= columns else (dense, torch.eye(columns))
    return WeightedProduct(product_of(*pair), 1.0)


def _kronecker(adapter: LokrModule) -> Tensor:
    """The spectrum of a LoKr's delta."""
    parts = [product_of(*matrix.factors()).energies for matrix in (adapter.first, adapter.second)]
    return kronecker_energies(*parts) * adapter.scale**2


def _dense_energy(adapter: Adapter) -> float:
    """The squared norm of a delta without factors, by blocks of rows."""
    rows = adapter.rows()
    columns = math.prod(adapter.weight_shape[1:])
    return sum(squared_norm(rows(start, stop)) for start, stop in row_blocks(adapter.weight_shape[0], columns))
