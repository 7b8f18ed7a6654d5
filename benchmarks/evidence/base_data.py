"""What the base is trained on: pictures of characters in fonts, as latents, with their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import background, fonts, text_encoder
from .autoencoder import Encoder
from .glyphs import CHARACTERS, FONTS, HELD_OUT, PAIRS, VARIANTS, is_drawn, prompt, render
from .mmdit import fold_repeats

# How often a training prompt leaves out the character, the font or both.
WITHOUT_CHARACTER, WITHOUT_FONT, EMPTY = 0.05, 0.05, 0.03
BACKGROUND_VARIANTS = 4
PAIRS_SHARE = 0.4  # of a batch: the rest comes from the background

Pair = tuple[str, str]


@dataclass(frozen=True)
class BaseData:
    latents: Tensor  # (pictures, 16, 8, 8): first those of PAIRS
    pairs: int  # how many these are
    contexts: Tensor  # (prompts, T, 768): folded
    repeats: int  # of their last token
    pooled: Tensor  # (768,): the same for all prompts
    choices: Tensor  # (pictures, 4): a picture's prompts: whole, without character, without font, empty

    def batch(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents (size, 16, 8, 8) and contexts (size, T, 768)."""
        pictures = torch.randint(self.pairs, (size,), generator=random)
        others = len(self.latents) - self.pairs
        if others:
            other = self.pairs + torch.randint(others, (size,), generator=random)
            pictures = torch.where(torch.rand(size, generator=random) < PAIRS_SHARE, pictures, other)
        chance = torch.rand(size, generator=random)
        bounds = torch.tensor([EMPTY, EMPTY + WITHOUT_FONT, EMPTY + WITHOUT_FONT + WITHOUT_CHARACTER])
        choice = 3 - torch.bucketize(chance, bounds, right=True)
        return self.latents[pictures], self.contexts[self.choices[pictures, choice]]


def pictures_of(pairs: Sequence[Pair], variants: int = VARIANTS) -> np.ndarray:
    """(pairs * variants, SIZE, SIZE) float32."""
    return np.stack([render(*pair, variant) for pair in pairs for variant in range(variants)])


def background_pairs() -> list[Pair]:
    """More characters and fonts, with all that they have in common with the benchmark's, but never a held-out pair."""
    fonts.download_fonts(list(background.FONTS.values()))
    characters, names = (*CHARACTERS, *background.CHARACTERS), (*FONTS, *background.FONTS)
    known = {*PAIRS, *HELD_OUT}
    pairs = [(character, font) for character in characters for font in names if (character, font) not in known]
    return [pair for pair in pairs if is_drawn(*pair)]


def base_data(pair_pictures: np.ndarray, encoder: Encoder, others: Sequence[Pair] = ()) -> BaseData:
    """``pair_pictures`` are pictures_of(PAIRS); ``others`` are rendered here."""
    pictures = [pair_pictures]
    shown = [pair for pair in PAIRS for _ in range(VARIANTS)]
    if others:
        pictures.append(pictures_of(others, BACKGROUND_VARIANTS))
        shown += [pair for pair in others for _ in range(BACKGROUND_VARIANTS)]
    with torch.no_grad():
        latents = torch.cat([encoder(part) for some in pictures for part in torch.from_numpy(some).split(512)])
    index: dict[str, int] = {}
    choices = [
        [
            index.setdefault(prompt(*parts), len(index))
            for parts in ((character, font), (None, font), (character, None), (None, None))
        ]
        for character, font in shown
    ]
    contexts, pooled = text_encoder.encode(list(index), text_encoder.known_words())
    folded, repeats = fold_repeats(contexts)
    return BaseData(latents, len(pair_pictures), folded.clone(), repeats, pooled[0], torch.tensor(choices))
