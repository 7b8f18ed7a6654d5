"""SCE: keeps the elements on which the LoRAs differ most, and weighs LoRAs by what they have there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .blocked_matrix import Block, BlockedMatrix
from .kernels import MergeBlocks, Settings
from .mask_stream import MaskStream
from .sparsify import kept_count
from .threshold import Selection, select_largest

# Keeps a weight that is divided by from being zero.
SMALLEST_FLOAT = torch.finfo(torch.float32).tiny


def select_by_variance(
    matrices: Sequence[BlockedMatrix], strengths: Sequence[float], settings: Settings, streams: Sequence[MaskStream]
) -> MergeBlocks:
    """Keep the elements with the largest variance across the LoRAs, the same ones of each (SCE, arXiv 2408.07990).

    Of equal variances the first in row order are kept; of one LoRA alone, the largest magnitudes. Each element becomes
    the mean of the values that agree with the sign of their sum, where a LoRA counts by its mean square over all
    elements kept.
    """
    first = matrices[0]

    def scaled(blocks: Sequence[Block]) -> list[Tensor]:
        return [one.values * w if w != 1 else one.values for one, w in zip(blocks, strengths, strict=True)]

    def rows(start: int, stop: int) -> Tensor:
        return _spread(scaled([Block(matrix.rows(start, stop), start) for matrix in matrices]))

    spread = BlockedMatrix(rows, first.shape, first.bounds, first.device, first.check, first.scratch)
    selection = select_largest(spread, kept_count(settings.density, first.count))

    def kept(blocks: Sequence[Block]) -> list[Tensor]:
        values = scaled(blocks)
        chosen = _chosen(Block(_spread(values), blocks[0].first_row), selection)
        return [one * chosen for one in values]

    energies = [0.0] * len(matrices)
    for blocks in zip(*(matrix.blocks() for matrix in matrices), strict=True):
        for number, values in enumerate(kept(blocks)):
            energies[number] += float(torch.linalg.vector_norm(values)) ** 2
    total = sum(energies)
    weights = [energy / total if total > 0 else 0.0 for energy in energies]
    return lambda blocks: _agreeing_mean(kept(blocks), weights)


def _spread(values: Sequence[Tensor]) -> Tensor:
    """What sorts like the variance of each element over the LoRAs; of one LoRA alone, the elements themselves."""
    if len(values) == 1:
        return values[0]
    if len(values) == 2:
        return values[0] - values[1]
    mean = torch.stack(list(values)).mean(0)
    spread = torch.zeros_like(mean)
    for one in values:
        spread.add_((one - mean).square_())
    return spread


def _chosen(spread: Block, selection: Selection) -> Tensor:
    """Which elements of a block were selected."""
    magnitudes = spread.values.abs()
    chosen = magnitudes >= selection.threshold
    late = slice(max(0, selection.first_dropped - spread.start), None)
    if late.start < magnitudes.numel():
        chosen.view(-1)[late] &= magnitudes.view(-1)[late] > selection.threshold
    return chosen


def _agreeing_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of the values that agree with the sign of the sum of all; a sum of zero elects plus."""
    votes = tensors[0].clone()
    for tensor in tensors[1:]:
        votes += tensor
    # the sum is -0 only where all elements are 0, which count for nothing at either sign
    elected = torch.copysign(torch.ones((), dtype=votes.dtype, device=votes.device), votes)
    total, agreeing_weight = torch.zeros_like(votes), torch.zeros_like(votes)
    for tensor, weight in zip(tensors, weights, strict=True):
        agreeing = (tensor * elected).clamp_min_(0)
        total.add_(agreeing, alpha=weight)
        agreeing_weight.add_(agreeing.sign_(), alpha=weight)
    return total.mul_(elected).div_(agreeing_weight.clamp_min_(SMALLEST_FLOAT))
