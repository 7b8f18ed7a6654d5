"""Inner products of deltas, from their factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .orthonormal_bases import orthonormal_bases
from .stacking import Term


def delta_gram(ups: Sequence[Tensor], downs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The inner products of the deltas weight * up @ down, (T, T) in float64 on the CPU, without forming a delta.

    up (m, r), down (r, n); <B1 A1, B2 A2> is the sum of the elements of (B1^T B2) * (A1 A2^T).
    """
    up, down = torch.cat(list(ups), 1), torch.cat(list(downs), 0)
    left, right = (gram.cpu().double() for gram in (up.mT @ up, down @ down.mT))
    ranks = [one.shape[1] for one in ups]
    rows = torch.stack([block.sum(0) for block in (left * right).split(ranks, 0)])
    sums = torch.stack([block.sum(1) for block in rows.split(ranks, 1)], 1)
    weight = torch.tensor(weights, dtype=torch.float64)
    return sums * weight * weight[:, None]


def term_gram(terms: Sequence[Term]) -> Tensor:
    """As delta_gram, in float64 and accurate also for factors whose products cancel out. (T, T) on the CPU.

    Raises OverflowError if a factor holds NaN or Inf.
    """
    gram = torch.zeros(len(terms), len(terms), dtype=torch.float64)
    bases = orthonormal_bases(terms)
    if bases is None:
        return gram
    left, right, term_of = bases.left.cpu(), bases.right.cpu(), bases.term_of.cpu()
    cores = [left[:, term_of == term] @ right[term_of == term] for term in range(len(terms))]
    flat = torch.stack(cores).flatten(1)
    return flat @ flat.mT
