"""How much of each LoRA a picture shows, measured by an image encoder.

The encoder turns a picture into an embedding. The direction in which a LoRA alone moves the embedding stands for what
that LoRA adds; the score says how far a picture has moved in all of these directions at once, and how far astray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..merge.errors import LoraError

# A picture (1, height, width, 3) with values from 0 to 1 -> its embedding, of any shape and length.
Embed = Callable[[Tensor], Tensor]

ASTRAY_WEIGHT = 0.5  # what moving out of the LoRAs' directions costs
NO_EFFECT = 1e-4  # embeddings at unit length that are closer than this are the same
SAME_DIRECTION = 1e-6  # singular values of the effects, relative to the largest, that are rounding
ALIKE = 0.05  # two LoRAs' effects that differ by less than this share of the larger one can't be told apart


SAMPLED_REFERENCES = (
    "The LoRAs were compared with pictures of the plot's own prompt. Scores say more with references: several pictures "
    "of each LoRA, with the prompt that it was trained for. PM Reference Pictures samples them."
)


@dataclass(frozen=True)
class References:
    """Embeddings in float64: ``none`` (d,) of no LoRA, ``alone`` (t, d) of each LoRA by itself.

    Of one picture the embedding has length 1; several are averaged, which shows what they have in common.
    """

    none: Tensor
    alone: Tensor

    @classmethod
    def of(cls, embeddings: Sequence[Tensor | Sequence[Tensor]]) -> References:
        """From the embedding without LoRAs, then those of each LoRA alone; lists where there are several pictures.

        Raises LoraError if one is unusable.
        """
        none, *alone = (_average(one) for one in embeddings)
        if not alone:
            raise LoraError("A score needs the picture without LoRAs and one of each LoRA alone.")
        return cls(none, torch.stack(alone))

    @property
    def effects(self) -> Tensor:
        """What each LoRA adds (t, d): e_t - e_0."""
        return self.alone - self.none

    def without_effect(self) -> list[int]:
        """The LoRAs whose picture is, to the encoder, the one without LoRAs. If there are any, nothing is scored."""
        return [number for number, effect in enumerate(self.effects) if float(effect.norm()) < NO_EFFECT]

    def alike(self) -> list[tuple[int, int]]:
        """Pairs of LoRAs that look the same to the encoder, so that either one alone scores like both."""
        effects = self.effects
        lengths = effects.norm(dim=1)
        return [
            (first, second)
            for first in range(len(effects))
            for second in range(first + 1, len(effects))
            if float((effects[first] - effects[second]).norm()) < ALIKE * float(max(lengths[first], lengths[second]))
        ]


def _average(embeddings: Tensor | Sequence[Tensor]) -> Tensor:
    if isinstance(embeddings, Tensor):
        return unit(embeddings)
    return torch.stack([unit(one) for one in embeddings]).mean(dim=0)


def unit(embedding: Tensor) -> Tensor:
    """The embedding as one vector (d,) of length 1 in float64. One vector per image patch is averaged (SigLIP).

    Raises LoraError if it is zero or not finite.
    """
    vector = embedding.detach().cpu().to(torch.float64)  # in this order: not every device has float64
    vector = vector.reshape(-1, vector.shape[-1]).mean(dim=0)
    length = float(vector.norm())
    if not 0 < length < float("inf"):
        raise LoraError("The image encoder gives no usable embedding (zero, NaN or infinite). Choose another encoder.")
    return vector / length


def shares(embedding: Tensor, references: References) -> Tensor:
    """How far the picture has moved towards each LoRA (t,): 0 as without LoRAs, 1 as with that LoRA alone.

    p_t = <e - e_0, e_t - e_0> / |e_t - e_0|^2, not clipped.
    """
    effects = references.effects
    return effects @ (unit(embedding) - references.none) / effects.square().sum(dim=1)


def astray(embedding: Tensor, references: References) -> float:
    """How far the picture has moved in directions that no LoRA explains, relative to the LoRA with the largest effect.

    The length of the part of e - e_0 outside the span of the e_t - e_0, over the longest |e_t - e_0|.
    """
    moved, effects = unit(embedding) - references.none, references.effects
    _, lengths, directions = torch.linalg.svd(effects, full_matrices=False)
    directions = directions[lengths > SAME_DIRECTION * lengths[0]]
    rest = moved - directions.T @ (directions @ moved)
    return float(rest.norm() / effects.norm(dim=1).max())


def score(embedding: Tensor, references: References) -> float:
    """The harmonic mean of the shares, each clipped to 0..1, minus half of what went astray.

    1 is a picture that shows every LoRA as strongly as it does alone, and nothing else. The harmonic mean is near 0 if
    one LoRA is missing, however strong the others are. Not defined if a LoRA has no effect (``without_effect``).
    """
    clipped = shares(embedding, references).clamp(0, 1)
    mean = 0.0 if float(clipped.min()) <= 0 else len(clipped) / float((1 / clipped).sum())
    return mean - ASTRAY_WEIGHT * astray(embedding, references)


def score_pictures(embed: Embed, references: Sequence[Tensor], pictures: Sequence[Tensor]) -> list[float]:
    """Scores of pictures by any encoder; ``references``: the picture without LoRAs, then one of each LoRA alone.

    Raises LoraError if one of the LoRAs has no effect on its picture.
    """
    known = References.of([embed(picture) for picture in references])
    if nothing := known.without_effect():
        raise LoraError(no_effect([f"LoRA {number + 1}" for number in nothing]))
    return [score(embed(picture), known) for picture in pictures]


def no_effect(names: Sequence[str], where: str = "") -> str:
    """Why nothing is scored if these LoRAs have no effect; ``where``: which cells of a plot that is."""
    looks = "looks" if len(names) == 1 else "look"
    return (
        f"No scores{where}: {' and '.join(names)} alone {looks} like no LoRA to the image encoder. Raise its strength, "
        "or use a prompt in which it shows."
    )


def is_black(picture: Tensor) -> bool:
    """Whether a picture is all black: NaN of a model or a VAE becomes that in a picture."""
    return not bool(picture.any())


def black_references(names: Sequence[str]) -> str:
    """Why nothing is scored if the references of these are black."""
    return (
        f"No scores: the picture of {' and of '.join(names)} is black, as it is if the model or the VAE gives NaN. "
        "Lower the LoRA's strength, or run the model or the VAE with more precision (fp32)."
    )


def no_difference_between(first: str, second: str) -> str:
    """The doubt about scores if these two LoRAs look the same."""
    return (
        f"{first} and {second} alone look the same to the image encoder: the score can't tell whether both show. Use a "
        "prompt in which they differ."
    )
