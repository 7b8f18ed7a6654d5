"""Model Breadcrumbs: drops the smallest values and also the few largest."""

from __future__ import annotations

from torch import Tensor

from .blocked_matrix import Block, BlockedMatrix, Mask
from .kernels import Settings
from .mask_stream import MaskStream
from .parameters import Parameter
from .sparsify import keep_largest, kept_count

BREADCRUMBS_GAMMA = Parameter(
    "breadcrumbs_gamma",
    default=0.01,
    least=0.0,
    most=0.5,
    step=0.01,
    tooltip="breadcrumbs_svd: the share of each LoRA's values to drop from the top, as outliers. Never more than the "
    "density leaves: at density 1 nothing is dropped.",
)


def drop_outliers(matrix: BlockedMatrix, settings: Settings, stream: MaskStream) -> Mask:
    """Drop the share ``gamma`` of largest magnitudes, keep the share ``density`` below them (arXiv 2312.06795).

    Of equal magnitudes, the first in row order count as the larger.
    """
    gamma = min(settings.parameters[BREADCRUMBS_GAMMA.name], 1 - settings.density)
    outliers = kept_count(gamma, matrix.count)
    upto = min(matrix.count, outliers + kept_count(settings.density, matrix.count))
    kept_or_outlier = keep_largest(matrix, upto)
    if outliers == 0:
        return kept_or_outlier
    outlier = keep_largest(matrix, outliers)

    def mask(block: Block) -> Tensor:
        return kept_or_outlier(block) - outlier(block)

    return mask
