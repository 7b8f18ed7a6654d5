"""TSV-Merge: the LoRAs' singular vectors, made orthogonal to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..numerics.core_space import RTOL_STACK, CoreSpace
from .kernels import Settings
from .mask_stream import MaskStream


def orthogonal_singular_vectors(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """polar([U_1 U_2 ...]) diag(S_1 S_2 ...) polar([V_1 V_2 ...])^T, as a core (a, b) (TSV-Merge, arXiv 2412.00081).

    Every LoRA keeps its own rank: the paper cuts each to its share of a dense matrix, where the authors' code also
    orthogonalises arbitrary null vectors. Equal LoRAs give that LoRA once.
    """
    u, v = (_polar(torch.cat(vectors, 1)) for vectors in zip(*((one.u, one.v) for one in space.deltas), strict=True))
    return u * torch.cat([delta.s for delta in space.deltas]) @ v.mT


def _polar(vectors: Tensor) -> Tensor:
    """The nearest orthonormal columns to (a, R); a partial isometry where fewer than R directions are distinct."""
    left, values, right = torch.linalg.svd(vectors, full_matrices=False)
    distinct = values > RTOL_STACK * values[0]
    return left[:, distinct] @ right[distinct]
