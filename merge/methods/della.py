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
        n = rows.shape[1]
        lowest, slope = (density - epsilon, 2 * epsilon / (n - 1)) if n > 1 else (density, 0.0)
        ranks = _ranks(rows)
        kept_from = _first_kept_rank(stream.integers(block.start, rows.numel()), lowest, slope, n)
        kept = ranks >= torch.from_numpy(kept_from).reshape(rows.shape).to(rows.device)
        probability = ranks.float().mul_(slope).add_(lowest)
        return torch.where(kept, rows / probability, 0.0).reshape(values.shape)

    return mask


def _first_kept_rank(drawn: np.ndarray, lowest: float, slope: float, n: int) -> np.ndarray:
    """The rank from which an element is kept: the least j with drawn / 2**32 < lowest + slope * j; n if there is none.

    Ranks are compared and not probabilities, so that rounding on a device can't change a mask.
    """
    missing = drawn * 2.0**-32 - lowest
    if slope == 0:
        return np.where(missing < 0, 0, n).astype(np.int32)
    return np.clip(np.floor(missing / slope) + 1, 0, n).astype(np.int32)


def _ranks(rows: Tensor) -> Tensor:
    """The place of each element in its row by rising magnitude, from 0; of equal ones the earlier is the larger."""
    n = rows.shape[1]
    # a float's bit pattern sorts like its magnitude; the position in the low bits breaks ties and finds the element
    position = torch.arange(n - 1, -1, -1, device=rows.device)
    keys = (rows.abs().view(torch.int32).long() << 32) | position
    if rows.device.type == "cpu":
        array = keys.numpy()
        array.sort(axis=1)  # with vector instructions, which torch's sort has not
    else:
        keys = keys.sort(dim=1).values
    places = n - 1 - (keys & 0xFFFFFFFF)
    ranks = torch.arange(n, device=rows.device, dtype=torch.int32).expand_as(places)
    return torch.empty_like(ranks, memory_format=torch.contiguous_format).scatter_(1, places, ranks)
