"""The result of a truncated SVD, as balanced factors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Truncated:
    """A low-rank approximation up (m, k) @ down (k, n), and the squared Frobenius norms of it and of the full matrix.

    The factors are balanced: each carries the square root of the singular values, largest first. With U * S on one
    side, singular values of 1e5 would overflow half precision.
    """

    up: Tensor
    down: Tensor
    kept: float
    total: float

    def transposed(self) -> Truncated:
        return Truncated(self.down.mT, self.up.mT, self.kept, self.total)

    def scaled(self, factor: float) -> Truncated:
        """The same times a positive factor, still balanced."""
        if factor == 1.0:
            return self
        root = math.sqrt(factor)
        return Truncated(self.up * root, self.down * root, self.kept * factor**2, self.total * factor**2)

    def to(self, device: torch.device) -> Truncated:
        return Truncated(self.up.to(device), self.down.to(device), self.kept, self.total)


def energy(values: Tensor) -> float:
    """The squared Frobenius norm of a matrix with these singular values."""
    return float(values.double().square().sum())
