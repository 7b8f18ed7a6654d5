"""Consensus: several LoRAs' tensors become one, as a weighted sum or as a mean over those that agree on a sign.

PEFT's task_arithmetic, calculate_majority_sign_mask and disjoint_merge (peft/utils/merge_utils.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Consensus = Callable[[Sequence[Tensor], Sequence[float]], Tensor]


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum of w_t x_t (task arithmetic, arXiv 2212.04089)."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def disjoint_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The mean of w_t x_t over the LoRAs that agree with the elected sign of each element (TIES, arXiv 2306.01708).

    As PEFT's disjoint_merge with majority_sign_method "total": the sign of the sum of the unweighted tensors is
    elected, a sum of zero elects plus, and zeros neither vote nor count. The mean divides by the number of agreeing
    LoRAs, so that merging a LoRA with itself at strength 1 gives it once.
    """
    votes = tensors[0] + tensors[1] if len(tensors) > 1 else tensors[0]
    for tensor in tensors[2:]:
        votes += tensor
    # the sum is -0 only where all elements are 0, which count for nothing at either sign
    elected = torch.copysign(torch.ones((), dtype=votes.dtype, device=votes.device), votes)

    def agreeing(tensor: Tensor) -> Tensor:
        """The magnitudes of the elements of the elected sign, 0 elsewhere."""
        return (tensor * elected).clamp_min_(0)

    first = agreeing(tensors[0])
    total, count = first * weights[0], first.sign_()
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        magnitudes = agreeing(tensor)
        total.add_(magnitudes, alpha=weight)
        count += magnitudes.sign_()
    return total.mul_(elected).div_(count.clamp_min_(1))
