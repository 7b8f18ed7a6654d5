"""NP-LoRA: later LoRAs give way to earlier ones where they read the same inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..numerics.core_space import CoreSpace, left_singular_vectors
from .kernels import Settings
from .mask_stream import MaskStream
from .parameters import Parameter

NP_MU = Parameter(
    "np_mu",
    default=0.5,
    least=0.0,
    most=1000.0,
    step=0.1,
    tooltip="np_svd: how much of the input directions of earlier LoRAs is taken from later ones: mu / (1 + mu), so 0.5 "
    "takes a third. 0 is the plain sum, 1000 takes all.",
)


def null_space_projection(space: CoreSpace, settings: Settings, streams: Sequence[MaskStream]) -> Tensor:
    """D_1 + sum over t > 1 of D_t (I - mu / (1 + mu) P_t), as a core (a, b) (NP-LoRA, arXiv 2511.11051).

    P_t projects onto the input directions (row space) of all LoRAs before t as they came in. For two LoRAs, the paper
    puts the style first and the content second.
    """
    mu = settings.parameters[NP_MU.name]
    taken = 1.0 if mu >= NP_MU.most else mu / (1 + mu)
    merged = space.deltas[0].core
    for number, delta in enumerate(space.deltas[1:], 1):
        earlier = left_singular_vectors(torch.cat([one.v * one.s.sqrt() for one in space.deltas[:number]], 1))
        core = delta.core
        merged = merged + core - taken * (core @ earlier) @ earlier.mT
    return merged
