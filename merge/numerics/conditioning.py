"""Factors that float32 can multiply without losing digits to cancellation."""

from __future__ import annotations

import torch
from torch import Tensor

from .rank_rules import fixed_rank
from .sum_svd import truncate_sum

# Ratio of the root of the summed squares of a product's terms to the norm of their sum. float32 loses as many digits
# as this has; up to here that is harmless.
MAX_CANCELLATION = 4


def float32_factors(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Factors whose float32 product is as accurate as float32 can be.

    They are the given ones, unless their terms cancel (badly conditioned factors); then the balanced factors of their
    SVD, computed in float64.
    """
    up, down = up.float(), down.float()
    terms = (torch.linalg.vector_norm(up, dim=0) * torch.linalg.vector_norm(down, dim=1)).double().square().sum()
    # ||up @ down||^2 = <up^T up, down down^T>, without forming the product
    up64, down64 = up.double(), down.double()
    square = float(((up64.mT @ up64) * (down64 @ down64.mT)).sum())
    if float(terms) <= MAX_CANCELLATION**2 * square:
        return up, down
    best = truncate_sum([(up64, down64, 1.0)], fixed_rank(up.shape[1]))
    return (up, down) if best is None else (best.up.float(), best.down.float())
