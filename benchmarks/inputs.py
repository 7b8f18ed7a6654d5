"""The LoRAs that are merged: made-up files in the shapes of real models, and what files hold as plain matrices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tools.make_lora import write_lora

from .shapes import ARCHITECTURES, spread

# Of the LoRAs in their order, over and over.
STRENGTHS = (0.8, 0.6, -0.5, 1.0)
SPELLINGS = ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight"))


@dataclass(frozen=True, eq=False)
class Term:
    """What one LoRA does to a weight: strength * scale * up @ down; ``number`` is the LoRA's, from 1."""

    up: Tensor
    down: Tensor
    scale: float
    strength: float
    number: int

    @property
    def gain(self) -> float:
        return self.strength * self.scale


@dataclass(frozen=True, eq=False)
class Module:
    name: str
    terms: tuple[Term, ...]

    @property
    def rows(self) -> int:
        return self.terms[0].up.shape[0]

    @property
    def columns(self) -> int:
        return self.terms[0].down.shape[1]

    @property
    def group(self) -> tuple[int, ...]:
        """Modules alike in this take the same time."""
        return (self.rows, self.columns, *(term.up.shape[1] for term in self.terms))


def strength(number: int) -> float:
    return STRENGTHS[(number - 1) % len(STRENGTHS)]


def generate(
    folder: Path, architecture: str, rank: int, count: int, dtype: str, seed: int = 0, modules: int = 0
) -> list[Path]:
    """That many files, made once and kept in the folder; ``modules`` above 0 takes only so many of the model's."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = ARCHITECTURES[architecture]()
    if modules:
        shapes = spread(shapes, modules)
    files = []
    for number in range(seed, seed + count):
        path = folder / f"{architecture}-{len(shapes)}-modules-rank-{rank}-{dtype}-{number}.safetensors"
        if not path.exists():
            unfinished = path.with_suffix(".tmp")
            write_lora(
                unfinished, rank, seed=number, dtype=getattr(torch, dtype), alpha=rank / 2, modules=shapes
            )  # alpha / rank isn't 1, so that a scale left out would be seen
            os.replace(unfinished, path)
        files.append(path)
    return files


def cache(files: Sequence[Path]) -> None:
    """From here on the files are in the system's cache for everyone, as far as it has room."""
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass


def modules_of(files: Sequence[Mapping[str, Tensor]]) -> list[Module]:
    """The modules of files' tensors, kernels flattened; those of the first file first."""
    found: dict[str, list[Term]] = {}
    for number, tensors in enumerate(files, 1):
        known = 0
        for key, up in tensors.items():
            spelling = next((pair for pair in SPELLINGS if key.endswith(pair[0])), None)
            if spelling is None:
                continue
            name = key.removesuffix(spelling[0])
            down = tensors[name + spelling[1]]
            alpha = tensors.get(name + ".alpha")
            known += 2 if alpha is None else 3
            scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
            term = Term(up.flatten(1), down.flatten(1), scale, strength(number), number)
            found.setdefault(name, []).append(term)
        if known != len(tensors):
            raise ValueError(
                f"File {number} holds tensors besides lora_up, lora_down (or lora_B, lora_A) and alpha. "
                "The benchmark compares plain LoRAs only."
            )
    return [Module(name, tuple(terms)) for name, terms in found.items()]


def first_terms(modules: Sequence[Module]) -> list[Module]:
    """Only what the first LoRA does, at strength 1: a file alone has no strength."""
    alone = []
    for module in modules:
        term = module.terms[0]
        if term.number == 1:
            alone.append(Module(module.name, (Term(term.up, term.down, term.scale, 1.0, 1),)))
    return alone


def one_of_each(modules: Sequence[Module]) -> list[tuple[Module, int]]:
    """The first module of each shape and rank, and how many there are."""
    groups: dict[tuple[int, ...], list[Module]] = {}
    for module in modules:
        groups.setdefault(module.group, []).append(module)
    return [(alike[0], len(alike)) for alike in groups.values()]
