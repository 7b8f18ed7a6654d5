"""RegMean without data: each input direction is answered by the LoRAs that read it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..numerics.core_space import RTOL_STACK, CoreSpace
from .kernels import Settings
from .mask_stream import MaskStream
from .parameters import Parameter

ROUTE_RIDGE = Parameter(
    "route_ridge",
    default=1e-4,
    least=0.0,
    most=1.0,
    step=1e-4,
    tooltip="route_svd: regularises directions that hardly any LoRA reads. Larger values move towards the plain sum, "
    "scaled down.",
)


def routed_by_inputs(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """(sum of D_t V_t V_t^T) (sum of V_t V_t^T)^-1, as a core (a, b): LoRAs share the inputs that several of them read.

    RegMean (arXiv 2212.09849) with inputs that are isotropic in each LoRA's row space, as in SSR-Merge. The inverse has
    the ridge ``ridge * mean of the diagonal``; without a ridge it is the pseudo-inverse.
    """
    ridge = settings.parameters[ROUTE_RIDGE.name]
    readers = torch.stack([delta.v @ delta.v.mT for delta in space.deltas]).sum(0)
    if ridge == 0:
        return space.sum() @ torch.linalg.pinv(readers, rtol=RTOL_STACK, hermitian=True)
    readers = readers + ridge * readers.diagonal().mean() * torch.eye(len(readers), dtype=readers.dtype)
    return torch.linalg.solve(readers, space.sum().mT).mT  # readers is symmetric
