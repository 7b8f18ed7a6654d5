"""LoKr: the Kronecker product of two matrices, each full or of two factors (LyCORIS, arXiv 2309.14859).

The rules are those of comfy/weight_adapter/lokr.py: alpha is divided by the inner size of a decomposed second matrix,
else of a decomposed first one, and ignored when both are full. A decomposed matrix is up @ down, a full one itself
times an identity matrix on its smaller side. kron(up1 @ down1, up2 @ down2) = kron(up1, up2) @ kron(down1, down2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..adapters.base import Adapter, Rows, worth_factors
from ..adapters.products import Kronecker, Product
from ..errors import DAMAGED, LoraError
from ..lazy import LazyTensor
from .checks import ALPHA, read_alpha, require_float, require_matrices, shape_text
from .decomposed import DecomposedMatrix, decomposed
from .module_tensors import ModuleTensors

NAME = "LoKr"
W1, W1_A, W1_B = ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b"
W2, W2_A, W2_B, T2 = ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"
SUFFIXES = (W1, W1_A, W1_B, W2, W2_A, W2_B, T2)


@dataclass(frozen=True)
class FullMatrix:
    """A matrix (out, in[, kh, kw]) that is stored whole."""

    whole: LazyTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole.shape

    @property
    def rank(self) -> int:
        return min(self.shape[0], math.prod(self.shape[1:]))

    def factors(self) -> tuple[Tensor, Tensor]:
        whole = self.whole.materialize().flatten(1)
        rows, columns = whole.shape
        return (whole, torch.eye(columns)) if columns <= rows else (torch.eye(rows), whole)


Matrix = FullMatrix | DecomposedMatrix


@dataclass(frozen=True, eq=False)
class LokrModule(Adapter):
    """``dim`` is what alpha is divided by; None: alpha does not count. ``stored`` are the file's tensors."""

    family: str = field(default=NAME, init=False)
    name: str
    first: Matrix
    second: Matrix
    alpha: float
    dim: int | None
    stored: Mapping[str, LazyTensor]
    block_weight: float = 1.0

    @property
    def scale(self) -> float:
        return 1.0 if self.dim is None else self.alpha / self.dim

    @property
    def rank(self) -> int:
        return self.first.rank * self.second.rank

    @property
    def weight_shape(self) -> tuple[int, ...]:
        (rows1, columns1), (rows2, columns2, *kernel) = self.first.shape, self.second.shape
        return (rows1 * rows2, columns1 * columns2, *kernel)

    @property
    def has_factors(self) -> bool:
        return worth_factors(self)

    def factors(self) -> tuple[Tensor, Tensor] | None:
        if not self.has_factors:
            return None
        (up1, down1), (up2, down2) = self.first.factors(), self.second.factors()
        return _kron(up1, up2), _kron(down1, down2)

    def dense(self) -> Tensor:
        return self.rows()(0, self.weight_shape[0])

    def rows(self) -> Rows:
        first, second = (up.float() @ down.float() for up, down in (self.first.factors(), self.second.factors()))

        def compute(start: int, stop: int) -> Tensor:
            # row i of a Kronecker product combines row i // p of the first with row i % p of the second, of p rows
            indices = torch.arange(start, stop)
            of_first, of_second = first[indices // second.shape[0]], second[indices % second.shape[0]]
            return (of_first[:, :, None] * of_second[:, None, :]).flatten(1).mul_(self.scale)

        return compute

    def product(self) -> Product:
        first, second = (up.float() @ down.float() for up, down in (self.first.factors(), self.second.factors()))
        return Kronecker((first, second), self.scale)

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        for suffix, tensor in self.stored.items():
            # without a dim no program reads alpha, so the weight is multiplied into the first matrix
            yield suffix, tensor.scaled(self.block_weight if self.dim is None and suffix == W1 else 1.0)
        if self.dim is not None:
            yield ALPHA, LazyTensor.of(torch.tensor(self.alpha * self.block_weight, dtype=torch.float32))


def _kron(a: Tensor, b: Tensor) -> Tensor:
    return torch.kron(a.float().contiguous(), b.float().contiguous())


def read(module: ModuleTensors) -> list[LokrModule]:
    """The adapter of a module. Its tensors stay in the file.

    Raises LoraError for missing factors and shapes that disagree.
    """
    lazy, source = module.lazy, module.source
    for full, pair in ((W1, (W1_A, W1_B)), (W2, (W2_A, W2_B))):
        if full in lazy and any(factor in lazy for factor in pair):
            raise LoraError(f"{source} has {full[1:]} both whole and in factors. {DAMAGED}")
        if full not in lazy:
            require_matrices(module.values, pair, source)
        else:
            require_float(lazy[full], f"{source}: its {full[1:]}")
    if W1 in lazy and (len(lazy[W1].shape) != 2 or 0 in lazy[W1].shape):
        raise LoraError(f"{source}: its lokr_w1 {shape_text(lazy[W1])} is not a matrix. {DAMAGED}")
    if T2 in lazy and W2 in lazy:
        raise LoraError(f"{source} has both lokr_t2 and a whole lokr_w2. {DAMAGED}")
    first = FullMatrix(lazy[W1]) if W1 in lazy else decomposed(lazy[W1_A], lazy[W1_B], None, source, "")
    if W2 not in lazy:
        second = decomposed(lazy[W2_A], lazy[W2_B], lazy.get(T2), source, "lokr_t2")
    elif len(lazy[W2].shape) < 2 or 0 in lazy[W2].shape:
        raise LoraError(f"{source}: its lokr_w2 {shape_text(lazy[W2])} is not a matrix. {DAMAGED}")
    else:
        second = FullMatrix(lazy[W2])
    dim = lazy[W2_B].shape[0] if W2_B in lazy else lazy[W1_B].shape[0] if W1_B in lazy else None
    alpha = read_alpha(module.values, dim or 1, source)
    stored = {suffix: lazy[suffix] for suffix in SUFFIXES if suffix in lazy}
    return [LokrModule(module.name, first, second, alpha, dim, stored)]
