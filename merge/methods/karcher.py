"""Karcher mean: the mean direction of the deltas on the sphere, at the mean of their norms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .kernels import Settings

MAX_ITERATIONS = 50
CONVERGED = 1e-10  # length of the tangent
# A start shorter than this is no direction: the weighted unit deltas cancel out.
NO_DIRECTION = 1e-6
# Angles this close to 0 or pi have no stable logarithm.
SMALL_ANGLE = 1e-12
OPPOSITE_ANGLE = math.pi - 1e-6


def karcher_coefficients(gram: Tensor, strengths: Sequence[float], settings: Settings) -> list[float] | None:
    """The Karcher mean of T deltas as multiples of them, from their Gram matrix (T, T), float64.

    The mean direction on the unit sphere, weighted by |strength|, is found by the iteration of log and exp maps
    (Karcher 1977; mergekit's karcher for whole models); two LoRAs give SLERP. Its norm is the mean of the deltas'
    norms, so one LoRA at strength w gives w times its delta. None where the weighted directions cancel out.
    """
    norms = gram.diagonal().sqrt()
    cosines = gram / (norms * norms[:, None])
    share = torch.tensor(strengths, dtype=torch.float64).abs()
    share = share / share.sum()
    length = math.sqrt(max(0.0, float(share @ cosines @ share)))
    if length < NO_DIRECTION:
        return None
    mean = share / length  # coefficients of the unit deltas
    for _ in range(MAX_ITERATIONS):
        towards = (cosines @ mean).clamp(-1.0, 1.0)
        angles = towards.arccos()
        pull = share * angles / angles.sin().clamp_min(SMALL_ANGLE)
        pull = torch.where(angles < SMALL_ANGLE, share, torch.where(angles > OPPOSITE_ANGLE, 0.0, pull))
        tangent = pull - (pull @ towards) * mean
        step = math.sqrt(max(0.0, float(tangent @ cosines @ tangent)))
        if step < CONVERGED:
            break
        mean = math.cos(step) * mean + math.sin(step) / step * tangent
        mean = mean / math.sqrt(float(mean @ cosines @ mean))
    return (norms.mean() * mean / norms).tolist()
