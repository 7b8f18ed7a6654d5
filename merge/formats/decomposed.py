"""A matrix in factors, as LoHa and LoKr have them, with or without a Tucker core."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DAMAGED, LoraError
from ..lazy import LazyTensor
from .checks import require_float, shape_text


@dataclass(frozen=True)
class DecomposedMatrix:
    """a (out, r) @ b (r, in), or einsum('ijkl,jr,ip->prkl', core, b, a) with a (s, out), core (s, r, kh, kw)."""

    a: LazyTensor
    b: LazyTensor
    core: LazyTensor | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in[, kh, kw])."""
        if self.core is None:
            return (self.a.shape[0], self.b.shape[1])
        return (self.a.shape[1], self.b.shape[1], *self.core.shape[2:])

    @property
    def rank(self) -> int:
        return self.b.shape[0] if self.core is None else self.core.shape[0]

    def factors(self) -> tuple[Tensor, Tensor]:
        """Up (out, rank) and down (rank, in * kh * kw): a core is contracted with b."""
        a, b = self.a.materialize(), self.b.materialize()
        if self.core is None:
            return a, b
        down = torch.einsum("ij...,jr->ir...", self.core.materialize().float(), b.float())
        return a.mT, down.flatten(1)


def decomposed(a: LazyTensor, b: LazyTensor, core: LazyTensor | None, source: str, core_name: str) -> DecomposedMatrix:
    """The matrix of these factors, which are matrices. Raises LoraError, naming ``source``, if they don't fit."""
    if core is None:
        if a.shape[1] != b.shape[0]:
            raise LoraError(f"{source}: its factors {shape_text(a)} and {shape_text(b)} disagree. {DAMAGED}")
        return DecomposedMatrix(a, b, None)
    require_float(core, f"{source}: its {core_name}")
    if len(core.shape) < 3 or core.shape[0] != a.shape[0] or core.shape[1] != b.shape[0] or 0 in core.shape:
        raise LoraError(f"{source}: its {core_name} {shape_text(core)} does not fit its factors. {DAMAGED}")
    return DecomposedMatrix(a, b, core)
