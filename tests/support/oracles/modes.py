"""What each mode beyond PEFT's merges one weight to, before truncation: float64 numpy, slow, from dense deltas alone.

Shares no code with merge/ and consults neither factors nor a random stream: draws are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from . import elementwise, subspaces
from .canonical import Array
from .spherical import karcher
from .subspaces import Draw

DEFAULTS: Mapping[str, float] = MappingProxyType(
    {"np_mu": 0.5, "iso_blend": 0.3, "route_ridge": 1e-4, "della_epsilon": 0.1, "breadcrumbs_gamma": 0.01}
)
# Modes by what they read; all take strengths, and those with a density keep only part of a LoRA.
IN_SUBSPACES = (
    "np_svd",
    "tsv_svd",
    "knots_ties_svd",
    "core_ties_svd",
    "core_dare_ties_svd",
    "iso_svd",
    "route_svd",
)
ELEMENTWISE = ("della_svd", "breadcrumbs_svd", "sce_svd")
MODES = ("karcher_svd", *IN_SUBSPACES, *ELEMENTWISE)
DRAWING = ("core_dare_ties_svd", "della_svd")
WITH_DENSITY = ("knots_ties_svd", "core_ties_svd", "core_dare_ties_svd", *ELEMENTWISE)


def merge(
    mode: str,
    deltas: Sequence[Array],
    strengths: Sequence[float],
    *,
    density: float = 1.0,
    parameters: Mapping[str, float] = MappingProxyType({}),
    draw: Draw | None = None,
) -> Array:
    """The merged delta.

    ``deltas`` are alpha / rank * up @ down at strength 1: matrices (out, in * kernel), or vectors (out,).
    ``strengths`` are those of the LoRAs times their block weights, after the rule of weights. LoRAs at strength 0 and
    zero deltas take no part. ``draw(t, shape)`` gives the numbers, uniform in [0, 1), that decide which entries of
    deltas[t] (or of its core) a random mode keeps: those below the entry's probability.
    """
    settings = {**DEFAULTS, **parameters}
    if set(settings) != set(DEFAULTS) or mode not in MODES:
        raise ValueError(f"unknown mode or parameter: {mode}, {dict(parameters)}")
    takes_part = [t for t, strength in enumerate(strengths) if strength != 0 and np.any(deltas[t])]
    shape = np.shape(deltas[0])
    if not takes_part:
        return np.zeros(shape)
    plain = [np.asarray(deltas[t], dtype=np.float64) for t in takes_part]
    weights = [float(strengths[t]) for t in takes_part]
    weighted = [w * delta for w, delta in zip(weights, plain, strict=True)]
    drawn = None if draw is None else lambda t, size: draw(takes_part[t], size)

    if len(shape) == 1:
        if mode in IN_SUBSPACES:  # a vector has no directions to speak of
            return np.sum(weighted, axis=0)
        plain, weighted = [x[None] for x in plain], [x[None] for x in weighted]
    if len(plain) == 1 and mode not in WITH_DENSITY:  # iso would flatten it, route shrink it by the ridge
        return weighted[0].reshape(shape)
    return _formula(mode, plain, weights, weighted, density, settings, drawn).reshape(shape)


def _formula(
    mode: str,
    plain: Sequence[Array],
    weights: Sequence[float],
    weighted: Sequence[Array],
    density: float,
    settings: Mapping[str, float],
    draw: Draw | None,
) -> Array:
    if mode == "karcher_svd":
        return karcher(weighted, weights)
    if mode == "np_svd":
        return subspaces.null_space_projection(weighted, settings["np_mu"])
    if mode == "tsv_svd":
        return subspaces.task_singular_vectors(weighted)
    if mode == "knots_ties_svd":
        return subspaces.knots_ties(weighted, density)
    if mode == "core_ties_svd":
        return subspaces.core_ties(weighted, density)
    if mode == "core_dare_ties_svd":
        if draw is None:
            raise ValueError("core_dare_ties_svd needs a draw")
        return subspaces.core_dare_ties(weighted, density, draw)
    if mode == "iso_svd":
        return subspaces.isotropic(weighted, settings["iso_blend"])
    if mode == "route_svd":
        return subspaces.route(weighted, settings["route_ridge"])
    if mode == "della_svd":
        return elementwise.della(plain, weights, density, settings["della_epsilon"], draw)
    if mode == "breadcrumbs_svd":
        return elementwise.breadcrumbs(weighted, density, settings["breadcrumbs_gamma"])
    return elementwise.sce(weighted, density)
