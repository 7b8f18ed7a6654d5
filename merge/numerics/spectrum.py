"""What a spectrum says: rank, effective rank and the rank that holds a share of the energy.

A spectrum is a tensor of energies: squared singular values, float64, in descending order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Singular values below this share of the largest don't count towards the numerical rank.
RTOL_RANK = 1e-6


def numerical_rank(energies: Tensor) -> int:
    """How many singular values are above RTOL_RANK of the largest."""
    return int((energies > RTOL_RANK**2 * energies[0]).sum()) if len(energies) else 0


def effective_rank(energies: Tensor) -> float:
    """exp of the entropy of the energies' shares: 1 if one direction has it all, r if r directions share it evenly.

    Roy and Vetterli, "The effective rank" (EUSIPCO 2007), with energies in place of singular values.
    """
    share = energies[energies > 0] / energies.sum()
    return math.exp(-float((share * share.log()).sum()))


def rank_holding(energies: Tensor, share: float) -> int:
    """The smallest k such that the first k energies make up at least this share of their sum."""
    sums = energies.cumsum(0)
    return int((sums < share * sums[-1] * (1 - 1e-12)).sum()) + 1


def kronecker_energies(first: Tensor, second: Tensor) -> Tensor:
    """The spectrum of a Kronecker product, whose singular values are the products of those of its factors."""
    return torch.outer(first, second).flatten().sort(descending=True).values
