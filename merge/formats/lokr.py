"""LoKr: the Kronecker product of two matrices, each full or of two factors (LyCORIS, arXiv 2309.14859).

The rules are those of comfy/weight_adapter/lokr.py: alpha is divided by the inner size of a decomposed second factor,
else of a decomposed first one, and ignored when both are full. A factored matrix is up @ down; a full one is itself
times an identity on its smaller side; and the Kronecker product of products is the product of Kronecker products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..adapters.base import Adapter, Rows, worth_factors
from ..errors import DAMAGED, LoraError
from ..lazy import Later, scaled
from .checks import ALPHA, read_alpha, require_float, require_matrices, shape_text

NAME = "LoKr"
W1, W1_A, W1_B = ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b"
W2, W2_A, W2_B, T2 = ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"
SUFFIXES = (W1, W1_A, W1_B, W2, W2_A, W2_B, T2)


@dataclass(frozen=True, eq=False)
class LokrModule(Adapter):
    """``first`` and ``second`` are the two matrices as (up (a, r), down (r, b)); ``kernel`` is (kh, kw) or empty."""

    family: ClassVar[str] = NAME
    name: str
    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]  # down's columns are the second's inputs times the kernel
    kernel: tuple[int, ...]
    alpha: float
    dim: int | None  # what alpha is divided by; None: alpha does not count
    stored: Mapping[str, Tensor]
    block_weight: float = 1.0

    @property
    def scale(self) -> float:
        return 1.0 if self.dim is None else self.alpha / self.dim

    @property
    def rank(self) -> int:
        return self.first[0].shape[1] * self.second[0].shape[1]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        inputs = self.second[1].shape[1]
        for size in self.kernel:
            inputs //= size
        return (self.first[0].shape[0] * self.second[0].shape[0], self.first[1].shape[1] * inputs, *self.kernel)

    @property
    def has_factors(self) -> bool:
        return worth_factors(self)

    def factors(self) -> tuple[Tensor, Tensor] | None:
        if not self.has_factors:
            return None
        (up1, down1), (up2, down2) = self.first, self.second
        return _kron(up1, up2), _kron(down1, down2)

    def dense(self) -> Tensor:
        return self.rows()(0, self.weight_shape[0])

    def rows(self) -> Rows:
        first, second = (up.float() @ down.float() for up, down in (self.first, self.second))

        def rows(start: int, stop: int) -> Tensor:
            # row i of a Kronecker product is that of row i // p of the one and i % p of the other
            numbers = torch.arange(start, stop)
            of_first, of_second = first[numbers // second.shape[0]], second[numbers % second.shape[0]]
            return (of_first[:, :, None] * of_second[:, None, :]).flatten(1).mul_(self.scale)

        return rows

    def tensors(self) -> Iterator[tuple[str, Tensor | Later]]:
        for suffix, tensor in self.stored.items():
            # without a dim nobody reads alpha, so the weight goes into the first factor
            yield suffix, scaled(tensor, self.block_weight if self.dim is None and suffix == W1 else 1.0)
        if self.dim is not None:
            yield ALPHA, torch.tensor(self.alpha * self.block_weight, dtype=torch.float32)


def _kron(a: Tensor, b: Tensor) -> Tensor:
    return torch.kron(a.float().contiguous(), b.float().contiguous())


def read(name: str, tensors: Mapping[str, Tensor], source: str) -> list[LokrModule]:
    """The module of the tensors of one prefix. Raises LoraError for missing factors and shapes that disagree."""
    for full, pair in ((W1, (W1_A, W1_B)), (W2, (W2_A, W2_B))):
        if full in tensors and any(half in tensors for half in pair):
            raise LoraError(f"{source} has {full[1:]} both whole and in factors. {DAMAGED}")
        if full not in tensors:
            require_matrices(tensors, pair, source)
        else:
            require_float(tensors[full], f"{source}: its {full[1:]}")
    if W1 in tensors and (tensors[W1].ndim != 2 or 0 in tensors[W1].shape):
        raise LoraError(f"{source}: its lokr_w1 {shape_text(tensors[W1])} is no matrix. {DAMAGED}")
    if T2 in tensors and W2 in tensors:
        raise LoraError(f"{source} has lokr_t2 beside a whole lokr_w2. {DAMAGED}")
    first = _split(tensors[W1]) if W1 in tensors else _pair(tensors[W1_A], tensors[W1_B], source)
    second, kernel = _second(tensors, source)
    dim = tensors[W2_B].shape[0] if W2_B in tensors else tensors[W1_B].shape[0] if W1_B in tensors else None
    alpha = read_alpha(tensors, dim or 1, source)
    stored = {suffix: tensors[suffix] for suffix in SUFFIXES if suffix in tensors}
    return [LokrModule(name, first, second, kernel, alpha, dim, stored)]


def _second(tensors: Mapping[str, Tensor], source: str) -> tuple[tuple[Tensor, Tensor], tuple[int, ...]]:
    if W2 in tensors:
        whole = tensors[W2]
        if whole.ndim < 2 or 0 in whole.shape:
            raise LoraError(f"{source}: its lokr_w2 {shape_text(whole)} is no matrix. {DAMAGED}")
        return _split(whole.flatten(1)), tuple(whole.shape[2:])
    a, b, core = tensors[W2_A], tensors[W2_B], tensors.get(T2)
    if core is None:
        return _pair(a, b, source), ()
    require_float(core, f"{source}: its lokr_t2")
    if core.ndim < 3 or core.shape[0] != a.shape[0] or core.shape[1] != b.shape[0] or 0 in core.shape:
        raise LoraError(f"{source}: its lokr_t2 {shape_text(core)} does not fit its factors. {DAMAGED}")
    # einsum('ijkl,jr,ip->prkl', t2, b, a): a^T is the up, the core with b the down
    down = torch.einsum("ij...,jr->ir...", core.float(), b.float())
    return (a.mT, down.flatten(1)), tuple(core.shape[2:])


def _pair(a: Tensor, b: Tensor, source: str) -> tuple[Tensor, Tensor]:
    if a.shape[1] != b.shape[0]:
        raise LoraError(f"{source}: its factors {shape_text(a)} and {shape_text(b)} disagree. {DAMAGED}")
    return a, b


def _split(whole: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = whole.shape
    if columns <= rows:
        return whole, torch.eye(columns)
    return torch.eye(rows), whole
