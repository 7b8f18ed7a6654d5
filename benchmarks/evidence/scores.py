"""The pack's score of a picture, and other formulas that could take its place.

Each takes the picture's embedding (d,) and the references (xy/scoring.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, linalg

from .references import References, scoring

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


def _to_sum(embedding: Tensor, known: References) -> float:
    """The cosine to the picture without LoRAs plus the effects of all."""
    target = known.none + known.effects.sum(dim=0)
    return float(scoring.unit(embedding) @ target / target.norm())


def _cosines(embedding: Tensor, known: References) -> float:
    """The mean cosine to the pictures of each LoRA alone."""
    alone = known.alone / known.alone.norm(dim=1, keepdim=True)
    return float((alone @ scoring.unit(embedding)).mean())


def _harmonic(parts: Tensor) -> float:
    return 0.0 if float(parts.min()) <= 0 else len(parts) / float((1 / parts).sum())


FORMULAS: Mapping[str, Formula] = {
    PACKS: lambda embedding, known: scoring.score(embedding, known),
    "score without its penalty": _without_penalty,
    "smallest share": _smallest,
    "mean share": _mean,
    "shares by least squares": _separated,
    "cosine to the sum of effects": _to_sum,
    "mean cosine to the LoRAs alone": _cosines,
}
