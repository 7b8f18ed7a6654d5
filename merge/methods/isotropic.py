"""Iso-C: evens out the spectrum of the sum, so that no few directions dominate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..numerics.core_space import RTOL_STACK, CoreSpace
from .kernels import Settings
from .mask_stream import MaskStream
from .parameters import Parameter

# A sum below this share of the deltas' joint norm is what is left after they cancelled out: it has no spectrum.
CANCELLED = 1e-6

ISO_BLEND = Parameter(
    "iso_blend",
    default=0.3,
    least=0.0,
    most=1.0,
    step=0.05,
    tooltip="iso_svd: how far the singular values of the sum move to their mean. 0 is the sum, 1 makes them equal.",
)


def isotropic_sum(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """The sum with singular values (1 - blend) S + blend mean(S), at its own norm, as a core (a, b).

    Iso-C (arXiv 2502.04959) at blend 1. Only the sum's own directions count: filling up the rest of the matrix, as for
    fully tuned models, would put most of a LoRA's energy outside of it.
    """
    blend = settings.parameters[ISO_BLEND.name]
    total = space.sum()
    joint = torch.linalg.vector_norm(torch.cat([delta.s for delta in space.deltas]))
    if torch.linalg.vector_norm(total) <= CANCELLED * joint:
        return total
    u, values, vh = torch.linalg.svd(total, full_matrices=False)
    kept = values > RTOL_STACK * values[0]
    u, values, vh = u[:, kept], values[kept], vh[kept]
    blended = (1 - blend) * values + blend * values.mean()
    blended = blended * (torch.linalg.vector_norm(values) / torch.linalg.vector_norm(blended))
    return u * blended @ vh
