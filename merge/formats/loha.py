"""LoHa: the element-wise product of two low-rank matrices (FedPara, arXiv 2108.06098; LyCORIS).

For convolutions each of the two has a Tucker core (comfy/weight_adapter/loha.py). The product of a rank r and a rank s
matrix has rank r * s: its factors are the column-wise and row-wise Khatri-Rao products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..adapters.base import Adapter, Rows, worth_factors
from ..adapters.products import ElementWise, Product
from ..errors import DAMAGED, INCOMPLETE, LoraError
from ..lazy import LazyTensor
from .checks import ALPHA, read_alpha, require_matrices
from .decomposed import DecomposedMatrix, decomposed
from .module_tensors import ModuleTensors

NAME = "LoHa"
MATRICES = (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b")
CORES = (".hada_t1", ".hada_t2")
SUFFIXES = (*MATRICES, *CORES)


@dataclass(frozen=True, eq=False)
class LohaModule(Adapter):
    """``dim`` is what alpha is divided by."""

    family: str = field(default=NAME, init=False)
    name: str
    first: DecomposedMatrix
    second: DecomposedMatrix
    alpha: float
    dim: int
    block_weight: float = 1.0

    @property
    def scale(self) -> float:
        return self.alpha / self.dim

    @property
    def rank(self) -> int:
        return self.first.rank * self.second.rank

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.first.shape

    @property
    def has_factors(self) -> bool:
        return worth_factors(self)

    def factors(self) -> tuple[Tensor, Tensor] | None:
        if not self.has_factors:
            return None
        (up1, down1), (up2, down2) = self._float32_factors()
        up = torch.einsum("or,os->ors", up1, up2).flatten(1)
        down = torch.einsum("ri,si->rsi", down1, down2).flatten(0, 1)
        return up, down

    def _float32_factors(self) -> list[tuple[Tensor, Tensor]]:
        return [(up.float(), down.float()) for up, down in (self.first.factors(), self.second.factors())]

    def dense(self) -> Tensor:
        return self.rows()(0, self.weight_shape[0])

    def rows(self) -> Rows:
        (up1, down1), (up2, down2) = self._float32_factors()
        return lambda start, stop: (up1[start:stop] @ down1).mul_(up2[start:stop] @ down2).mul_(self.scale)

    def product(self) -> Product:
        if self.has_factors:
            return super().product()
        (up1, down1), (up2, down2) = self.first.factors(), self.second.factors()
        return ElementWise((up1, down1, up2, down2), self.scale)

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        matrices = (self.first.a, self.first.b, self.second.a, self.second.b)
        yield from zip(MATRICES, matrices, strict=True)
        for suffix, core in zip(CORES, (self.first.core, self.second.core), strict=True):
            if core is not None:
                yield suffix, core
        yield ALPHA, LazyTensor.of(torch.tensor(self.alpha * self.block_weight, dtype=torch.float32))


def read(module: ModuleTensors) -> list[LohaModule]:
    """The adapter of a module. Its tensors stay in the file.

    Raises LoraError for missing factors and shapes that disagree.
    """
    lazy, source = module.lazy, module.source
    require_matrices(module.values, MATRICES, source)
    cores = [lazy.get(core) for core in CORES]
    if (cores[0] is None) != (cores[1] is None):
        raise LoraError(f"{source} has one of hada_t1 and hada_t2 without the other. {INCOMPLETE}")
    first, second = (
        decomposed(lazy[a], lazy[b], core, source, "core")
        for a, b, core in zip(MATRICES[::2], MATRICES[1::2], cores, strict=True)
    )
    if first.shape != second.shape:
        raise LoraError(f"{source}: the shapes of its two products disagree. {DAMAGED}")
    dim = first.b.shape[0]
    return [LohaModule(module.name, first, second, read_alpha(module.values, dim, source), dim)]
