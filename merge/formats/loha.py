"""LoHa: the element-wise product of two low-rank matrices (FedPara, arXiv 2108.06098; LyCORIS).

With Tucker cores t1, t2 (convolutions) each of the two is einsum('ijkl,jr,ip->prkl', t, b, a), as in
comfy/weight_adapter/loha.py. The product of a rank r and a rank s matrix is one of rank r * s: its factors are the
column-wise and row-wise Khatri-Rao products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..adapters.base import Adapter, Rows, worth_factors
from ..errors import DAMAGED, INCOMPLETE, LoraError
from ..lazy import Later
from .checks import ALPHA, read_alpha, require_float, require_matrices, shape_text

NAME = "LoHa"
MATRICES = (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b")
CORES = (".hada_t1", ".hada_t2")
SUFFIXES = (*MATRICES, *CORES)


@dataclass(frozen=True, eq=False)
class LohaModule(Adapter):
    """``parts`` are the two low-rank matrices as (up (out, r), down (r, in[, kh, kw])), ``stored`` is the file's."""

    family: ClassVar[str] = NAME
    name: str
    parts: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    alpha: float
    dim: int  # what alpha is divided by
    stored: Mapping[str, Tensor]
    block_weight: float = 1.0

    @property
    def scale(self) -> float:
        return self.alpha / self.dim

    @property
    def rank(self) -> int:
        return self.parts[0][1].shape[0] * self.parts[1][1].shape[0]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        up, down = self.parts[0]
        return (up.shape[0], *down.shape[1:])

    @property
    def has_factors(self) -> bool:
        return worth_factors(self)

    def factors(self) -> tuple[Tensor, Tensor] | None:
        if not self.has_factors:
            return None
        (up1, down1), (up2, down2) = self.parts
        up = torch.einsum("or,os->ors", up1.float(), up2.float()).flatten(1)
        down = torch.einsum("ri,si->rsi", down1.flatten(1).float(), down2.flatten(1).float()).flatten(0, 1)
        return up, down

    def dense(self) -> Tensor:
        return self.rows()(0, self.weight_shape[0])

    def rows(self) -> Rows:
        (up1, down1), (up2, down2) = ((up.float(), down.float().flatten(1)) for up, down in self.parts)
        return lambda start, stop: (up1[start:stop] @ down1).mul_(up2[start:stop] @ down2).mul_(self.scale)

    def tensors(self) -> Iterator[tuple[str, Tensor | Later]]:
        yield from self.stored.items()
        yield ALPHA, torch.tensor(self.alpha * self.block_weight, dtype=torch.float32)


def read(name: str, tensors: Mapping[str, Tensor], source: str) -> list[LohaModule]:
    """The module of the tensors of one prefix. Raises LoraError for missing factors and shapes that disagree."""
    require_matrices(tensors, MATRICES, source)
    cores = [tensors.get(core) for core in CORES]
    if (cores[0] is None) != (cores[1] is None):
        raise LoraError(f"{source} has one of hada_t1 and hada_t2 without the other. {INCOMPLETE}")
    first, second = (
        _part(tensors[a], tensors[b], core, source)
        for a, b, core in zip(MATRICES[::2], MATRICES[1::2], cores, strict=True)
    )
    if first[0].shape[0] != second[0].shape[0] or first[1].shape[1:] != second[1].shape[1:]:
        raise LoraError(f"{source}: the shapes of its two products disagree. {DAMAGED}")
    dim = tensors[".hada_w1_b"].shape[0]
    stored = {suffix: tensors[suffix] for suffix in SUFFIXES if suffix in tensors}
    return [LohaModule(name, (first, second), read_alpha(tensors, dim, source), dim, stored)]


def _part(a: Tensor, b: Tensor, core: Tensor | None, source: str) -> tuple[Tensor, Tensor]:
    if core is None:
        if a.shape[1] != b.shape[0]:
            raise LoraError(f"{source}: its factors {shape_text(a)} and {shape_text(b)} disagree. {DAMAGED}")
        return a, b
    require_float(core, f"{source}: its core")
    if core.ndim < 3 or core.shape[0] != a.shape[0] or core.shape[1] != b.shape[0] or 0 in core.shape:
        raise LoraError(f"{source}: its core {shape_text(core)} does not fit its factors. {DAMAGED}")
    return a.mT, torch.einsum("ij...,jr->ir...", core.float(), b.float())
