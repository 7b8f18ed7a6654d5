"""How strong a merge comes out: the rules for results and for the strengths that go in, in plain float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .canonical import Array, norm

STRENGTH_RULES = ("of the mode", "of the sum", "of the strongest", "as if orthogonal")
WEIGHT_RULES = ("as given", "average", "equal energy")


def apply_strength_rule(rule: str, merged: Array, deltas: Sequence[Array]) -> Array:
    """One weight's merged delta, scaled; ``deltas`` have their strengths inside, before any density.

    It stays as it is if it, or the sum for "of the sum", is below 1e-6 of sqrt(sum_t |D_t|^2).
    """
    orthogonal = math.sqrt(sum(norm(delta) ** 2 for delta in deltas))
    if rule == "of the mode":
        return merged
    wanted = {
        "of the sum": norm(np.sum(deltas, axis=0)),
        "of the strongest": max(norm(delta) for delta in deltas),
        "as if orthogonal": orthogonal,
    }[rule]
    if norm(merged) < 1e-6 * orthogonal or wanted < 1e-6 * orthogonal or orthogonal == 0:
        return merged
    return merged * (wanted / norm(merged))


def apply_weights(
    rule: str, strengths: Sequence[tuple[float, float]], norms: Sequence[float]
) -> list[tuple[float, float]]:
    """The (model, text encoder) strengths of all LoRAs of a merge, before block weights.

    ``norms`` are N_t = sqrt of the sum of |D_t|^2 over all modules of a LoRA, at strength 1 and with block weights.
    """
    if rule == "as given":
        return list(strengths)
    if rule == "average":
        model, text = (sum(abs(pair[part]) for pair in strengths) for part in (0, 1))
        return [(m / model if model else 0.0, t / text if text else 0.0) for m, t in strengths]
    if rule != "equal energy":
        raise ValueError(f"unknown rule {rule}")
    counted = [size for size, pair in zip(norms, strengths, strict=True) if any(pair) and size > 0]
    if not counted:
        return list(strengths)
    mean = math.exp(sum(math.log(size) for size in counted) / len(counted))
    return [
        (pair[0] * mean / size, pair[1] * mean / size) if size > 0 else pair
        for pair, size in zip(strengths, norms, strict=True)
    ]
