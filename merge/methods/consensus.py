"""How several LoRAs come together in one: a weighted sum, or a mean over those that agree on a sign."""

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
    elected, a sum of zero elects plus, zeros neither vote nor count, and the mean divides by the number of agreeing
    LoRAs, so two equal LoRAs at strength 1 give that LoRA once.
    """
    votes = tensors[0] + tensors[1] if len(tensors) > 1 else tensors[0]
    for tensor in tensors[2:]:
        votes += tensor
    # the sum is -0 only where all elements are 0, which then count for nothing whatever the sign
    elected = torch.copysign(torch.ones((), dtype=votes.dtype, device=votes.device), votes)

    def agreeing(tensor: Tensor) -> Tensor:
        """The magnitudes of the elements of the elected sign."""
        return (tensor * elected).clamp_min_(0)

    first = agreeing(tensors[0])
    total, count = first * weights[0], first.sign_()
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        magnitudes = agreeing(tensor)
        total.add_(magnitudes, alpha=weight)
        count += magnitudes.sign_()
    return total.mul_(elected).div_(count.clamp_min_(1))
