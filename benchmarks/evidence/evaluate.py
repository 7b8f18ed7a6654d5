"""Draws a case's pictures with a LoRA file applied, and judges them."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import glyphs
from .base import Base, sample
from .cases import PICTURES, Case, Target
from .judges import Trained
from .lora_files import read_deltas
from .mmdit import MMDiT

KNOWN = 4  # pictures of pairs that the base knows, with the merge applied: a part of the pool, by the case's pair
POOL = 48
STEPS = 10
NOISES, KNOWN_NOISES = 10_000, 20_000  # the first noise of a case's pictures, and of the known pairs'


@dataclass(frozen=True)
class Judges:
    character: Trained
    font: Trained


@dataclass(frozen=True)
class Findings:
    """For each picture of the case: character right, font right, distance to the true picture; for each picture of a
    known pair: both right, distance to the base's picture. Distances are root mean squares over the pixels."""

    concept: list[int]
    style: list[int]
    distance: list[float]
    known: list[int]
    moved: list[float]


def known_pool() -> list[Target]:
    """Spread over the letters and fonts that the base was trained on."""
    random = np.random.RandomState(7)
    return [glyphs.PAIRS[number] for number in random.permutation(len(glyphs.PAIRS))[:POOL]]


def known_numbers(case: Case) -> list[int]:
    """Which of the pool go with a case."""
    first = zlib.crc32(case.pair.encode()) % (POOL // KNOWN) * KNOWN
    return list(range(first, first + KNOWN))


def evaluate(
    base: Base, judges: Judges, case: Case, file: Path | None, base_pictures: np.ndarray, sheet: Path
) -> Findings:
    """Judge the pictures that ``file`` makes of the base. ``base_pictures``: of the pool, without a LoRA."""
    targets = [case.target(number) for number in range(PICTURES)]
    known = known_numbers(case)
    model = patched(base.model, read_deltas(file, base.model.state_dict())) if file else base.model
    pictures = draw(base, model, targets, known)
    save_sheet(pictures, sheet)
    return judged(judges, targets, known, pictures, base_pictures[known])


def patched(model: MMDiT, deltas: Mapping[str, torch.Tensor]) -> MMDiT:
    """A copy of the model with the deltas added to its weights."""
    changed = copy.deepcopy(model)
    weights = changed.state_dict()
    for name, delta in deltas.items():
        weights[name] += delta  # state_dict's tensors are the model's own
    return changed


def draw(base: Base, model: MMDiT, targets: Sequence[Target], known: Sequence[int]) -> np.ndarray:
    """The targets' pictures, then the known pairs', each on its own noise: the same for every merge."""
    pool = known_pool()
    prompts = [glyphs.prompt(*target) for target in (*targets, *(pool[number] for number in known))]
    noises = [NOISES + number for number in range(len(targets))] + [KNOWN_NOISES + number for number in known]
    return sample(base, prompts, noises, STEPS, model)


def judged(
    judges: Judges, targets: Sequence[Target], known: Sequence[int], pictures: np.ndarray, base_pictures: np.ndarray
) -> Findings:
    """What the judges find; ``base_pictures`` are of the same known pairs."""
    pool = known_pool()
    pairs = [*targets, *(pool[number] for number in known)]
    characters = [int(name == pair[0]) for name, pair in zip(judges.character.name(pictures), pairs, strict=True)]
    fonts = [int(name == pair[1]) for name, pair in zip(judges.font.name(pictures), pairs, strict=True)]
    count = len(targets)
    return Findings(
        *(characters[:count], fonts[:count]),
        [_distance_to_truth(picture, target) for picture, target in zip(pictures[:count], targets, strict=True)],
        [a * b for a, b in zip(characters[count:], fonts[count:], strict=True)],
        [_distance(picture, before) for picture, before in zip(pictures[count:], base_pictures, strict=True)],
    )


def _distance_to_truth(picture: np.ndarray, target: Target) -> float:
    """To the nearest of the target's variants: which of them a noise leads to is open."""
    return min(_distance(picture, variant) for variant in truth(*target))


@lru_cache(maxsize=1024)
def truth(character: str, font: str) -> np.ndarray:
    return np.stack([glyphs.render(character, font, variant) for variant in range(glyphs.VARIANTS)])


def save_sheet(pictures: np.ndarray, path: Path) -> None:
    """All pictures side by side, for people and for other judges."""
    strip = np.concatenate(list(pictures), axis=1)
    unfinished = path.with_suffix(".unfinished")
    Image.fromarray((strip * 255).round().astype(np.uint8)).save(unfinished, "png")
    unfinished.replace(path)


def read_sheet(path: Path) -> np.ndarray:
    """(N, SIZE, SIZE) in 0 to 1, as saved."""
    with Image.open(path) as image:
        strip = np.asarray(image, dtype=np.float32) / 255
    return np.stack(np.split(strip, strip.shape[1] // glyphs.SIZE, axis=1))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a - b).mean()))
