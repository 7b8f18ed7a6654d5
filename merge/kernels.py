"""What merge modes are made of: sparsify (by magnitude, at random) x consensus (sum, elected sign) x scaling.

The rules are PEFT's (peft/utils/merge_utils.py: prune, calculate_majority_sign_mask, disjoint_merge, task_arithmetic,
ties, dare_linear, dare_ties, magnitude_prune), with three repairs: floor(density * n) without float error, tied
magnitudes kept by position, and density 0 gives zeros instead of 0/0.

Sparsifiers see a matrix as blocks of rows, so that a dense delta never has to stand in memory once per LoRA; the same
blocks must come in every pass, since the shape of a matrix product can change its last bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# A float32 matrix in consecutive blocks of rows; may be asked for more than once.
Blocks = Callable[[], Iterator[Tensor]]
# Takes a block and the number of elements before it, returns the block with what was sparsified away set to 0.
Mask = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Draw:
    """What a random mask depends on, and all it depends on."""

    seed: int
    weight: str  # the weight's canonical name
    number: int  # of the LoRA among the inputs, from 1
    side: str  # "up", "down" or "delta"

    def integers(self, start: int, count: int) -> np.ndarray:
        """Uniform 32-bit integers of the positions start to start + count of this draw's stream.

        Philox is counter-based: a position's number is the same in whatever blocks the stream is read.
        """
        text = f"{self.seed}|{self.weight}|{self.number}|{self.side}"
        key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
        stream = np.random.Philox(key=key)
        step = start // 8  # a step of the counter gives four 64-bit words
        stream.advance(step)
        skip = start - 8 * step
        words = np.asarray(stream.random_raw((skip + count + 1) // 2), dtype="<u8")
        return words.view("<u4")[skip : skip + count]


# A sparsifier: the mask for a matrix of n elements at this density.
Sparsifier = Callable[[Blocks, int, float, Draw], Mask]
Consensus = Callable[[Sequence[Tensor], Sequence[float]], Tensor]


def kept_count(density: float, n: int) -> int:
    """How many of n elements a density keeps. PEFT's int(0.29 * 100) is 28; the small addend makes it 29."""
    return min(n, math.floor(density * n + 1e-9))


def keep_all(blocks: Blocks, n: int, density: float, draw: Draw) -> Mask:
    """No sparsification: the density is not used."""
    return lambda block, start: block


def keep_largest(blocks: Blocks, n: int, density: float, draw: Draw) -> Mask:
    """Keep the kept_count(density, n) elements of largest magnitude; of tied ones the first in row order.

    PEFT's magnitude_based_pruning (topk of the absolute values), https://arxiv.org/abs/2306.01708 section 3.
    """
    k = kept_count(density, n)
    if k == n:
        return lambda block, start: block
    if k == 0:
        return lambda block, start: torch.zeros_like(block)
    threshold, first_dropped = _magnitude_cut(blocks, n, k)

    def mask(block: Tensor, start: int) -> Tensor:
        magnitude = block.abs()
        keep = magnitude >= threshold
        if start + block.numel() > first_dropped:
            late = torch.arange(start, start + block.numel(), device=block.device).reshape(block.shape) >= first_dropped
            keep &= ~((magnitude == threshold) & late)
        return torch.where(keep, block, 0.0)

    return mask


def _magnitude_cut(blocks: Blocks, n: int, k: int) -> tuple[float, int]:
    """The k-th largest magnitude, and the position from which on elements of just that magnitude are dropped."""
    magnitudes = np.empty(n, dtype=np.float32)
    position = 0
    for block in blocks():
        magnitudes[position : position + block.numel()] = block.abs().reshape(-1).cpu().numpy()
        position += block.numel()
    magnitudes.partition(n - k)
    threshold = magnitudes[n - k]
    wanted = k - int(np.count_nonzero(magnitudes[n - k :] > threshold))
    ties_below = int(np.count_nonzero(magnitudes[: n - k] == threshold))
    if ties_below == 0 or threshold == 0:
        return float(threshold), n
    position = 0
    for block in blocks():
        tied = (block.abs().reshape(-1) == float(threshold)).nonzero().reshape(-1)
        if len(tied) > wanted:
            return float(threshold), position + int(tied[wanted])
        wanted -= len(tied)
        position += block.numel()
    return float(threshold), n


def keep_random(blocks: Blocks, n: int, density: float, draw: Draw) -> Mask:
    """Keep each element with probability density and divide it by the density (DARE, arXiv 2311.03099).

    PEFT's random_pruning with rescale. The mask comes from the draw alone, never from a global random state.
    """
    if density >= 1:
        return lambda block, start: block
    if density <= 0:
        return lambda block, start: torch.zeros_like(block)
    limit = min(round(density * 2**32), 2**32 - 1)

    def mask(block: Tensor, start: int) -> Tensor:
        keep = torch.from_numpy(draw.integers(start, block.numel()) < limit)
        return torch.where(keep.reshape(block.shape).to(block.device), block / density, 0.0)

    return mask


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum of w_t x_t (task arithmetic, arXiv 2212.04089)."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def elected_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The mean of w_t x_t over the LoRAs that agree with the elected sign of each element (TIES, arXiv 2306.01708).

    As PEFT's disjoint_merge with majority_sign_method "total": the sign of the sum of the unweighted tensors is
    elected, a sum of zero elects plus, zeros neither vote nor count, and the mean divides by the number of agreeing
    LoRAs, so two equal LoRAs at strength 1 give that LoRA once.
    """
    votes = tensors[0].clone()
    for tensor in tensors[1:]:
        votes += tensor
    elected = torch.where(votes >= 0, 1.0, -1.0)
    total = torch.zeros_like(votes)
    count = torch.zeros_like(votes)
    for tensor, weight in zip(tensors, weights, strict=True):
        agrees = torch.sign(tensor) == elected
        total += torch.where(agrees, tensor * weight, 0.0)
        count += agrees
    return total / count.clamp_(min=1)
