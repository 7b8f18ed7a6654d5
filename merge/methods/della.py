"""DELLA: random dropout that spares large values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .blocked_matrix import Block, BlockedMatrix, Mask
from .kernels import Settings, keep_values
from .mask_stream import MaskStream
from .parameters import Parameter

DELLA_EPSILON = Parameter(
    "della_epsilon",
    default=0.1,
    least=0.0,
    most=0.5,
    step=0.01,
    tooltip="della_svd: how much more often than the density the largest value of a row is kept, and the smallest less "
    "often. 0 is dare_ties_svd.",
)


def drop_by_magnitude(matrix: BlockedMatrix, settings: Settings, stream: MaskStream) -> Mask:
    """Keep each element with a probability that grows with its magnitude, and divide it by that (arXiv 2406.11617).

    In a row of n, the j-th smallest magnitude (from 0; of equal ones the earlier counts as larger) is kept with
    probability density - epsilon + 2 epsilon j / (n - 1). epsilon is lowered where that would leave 0 to 1.
    """
    density = settings.density
    epsilon = min(settings.parameters[DELLA_EPSILON.name], density, 1 - density)
    if density >= 1:
        return keep_values

    def mask(block: Block) -> Tensor:
        values = block.values
        rows = values.reshape(len(values) if values.ndim > 1 else 1, -1)
        limits = _by_magnitude(rows, _limits(rows.shape[1], density, epsilon))
        drawn = stream.integers(block.start, rows.numel()).reshape(rows.shape)
        kept = rows * (torch.from_numpy(drawn.astype(np.int64)).to(rows.device) < limits)
        return kept.div_(limits.float().mul_(2.0**-32).clamp_min_(2.0**-32)).reshape(values.shape)

    return mask


def _limits(n: int, density: float, epsilon: float) -> Tensor:
    """The probabilities of a row's elements by rising magnitude, as the 32-bit numbers below which they are kept.

    They are whole numbers, so that rounding on a device can't change a mask.
    """
    steps = np.arange(n) / (n - 1) if n > 1 else np.full(n, 0.5)
    return torch.from_numpy(np.ceil((density - epsilon + 2 * epsilon * steps) * 2.0**32).astype(np.int64))


def _by_magnitude(rows: Tensor, of_rank: Tensor) -> Tensor:
    """For each element, the entry of ``of_rank`` at its place in its row by rising magnitude (m, n).

    Of equal magnitudes the earlier counts as the larger.
    """
    # a float's bit pattern sorts like its magnitude, its complement the other way round; the position in the low bits
    # breaks ties and finds the element
    position = torch.arange(rows.shape[1], device=rows.device)
    keys = rows.abs().view(torch.int32).bitwise_not_().long().bitwise_left_shift_(32).bitwise_or_(position)
    if rows.device.type == "cpu":
        keys.numpy().sort(axis=1)  # numpy sorts with vector instructions, torch does not
    else:
        keys = keys.sort(dim=1).values
    places = keys.bitwise_and_(0xFFFFFFFF)
    falling = of_rank.flip(0).to(rows.device).expand_as(places)
    return torch.empty_like(places).scatter_(1, places, falling)
