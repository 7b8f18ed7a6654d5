"""Scores of merged pictures by an image encoder, and other formulas that could take the score's place.

Each takes one picture's embedding (d,) and the embeddings of its references (xy/scoring.py): the picture without a LoRA
and of each LoRA alone, with the same prompt and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, linalg

from .pack import part_of_pack

scoring = part_of_pack("xy.scoring")

References = Any  # scoring.References
Formula = Callable[[Tensor, References], float]

PACKS = "score"  # of PM XY Grid and PM Find Strengths


def _without_penalty(embedding: Tensor, known: References) -> float:
    return _harmonic(scoring.shares(embedding, known).clamp(0, 1))


def _smallest(embedding: Tensor, known: References) -> float:
    return float(scoring.shares(embedding, known).clamp(0, 1).min())


def _mean(embedding: Tensor, known: References) -> float:
    return float(scoring.shares(embedding, known).clamp(0, 1).mean())


def _separated(embedding: Tensor, known: References) -> float:
    """Shares by least squares: what the LoRAs' effects have in common counts once."""
    moved = scoring.unit(embedding) - known.none
    parts = linalg.lstsq(known.effects.T, moved[:, None]).solution[:, 0]
    return _harmonic(parts.clamp(0, 1))


def _cosines(embedding: Tensor, known: References) -> float:
    """The mean cosine to the pictures of each LoRA alone."""
    return float((known.alone @ scoring.unit(embedding)).mean())


def _harmonic(parts: Tensor) -> float:
    return 0.0 if float(parts.min()) <= 0 else len(parts) / float((1 / parts).sum())


FORMULAS: Mapping[str, Formula] = {
    PACKS: lambda embedding, known: scoring.score(embedding, known),
    "score without its penalty": _without_penalty,
    "smallest share": _smallest,
    "mean share": _mean,
    "shares by least squares": _separated,
    "mean cosine to the LoRAs alone": _cosines,
}


def references(embeddings: Tensor) -> References | None:
    """From (1 + loras, d): no LoRA, then each alone. None where a LoRA shows nothing, and so nothing can be scored."""
    known = scoring.References.of(list(embeddings))
    return None if known.without_effect() else known


def scores(of_references: Tensor, pictures: Tensor) -> dict[str, np.ndarray]:
    """For each formula a score of each noise's picture; NaN where a LoRA shows nothing.

    ``of_references`` (1 + loras, noises, d), ``pictures`` (noises, d).
    """
    found = {name: np.full(len(pictures), np.nan) for name in FORMULAS}
    for noise, picture in enumerate(pictures):
        known = references(of_references[:, noise])
        if known is not None:
            for name, formula in FORMULAS.items():
                found[name][noise] = formula(picture, known)
    return found
