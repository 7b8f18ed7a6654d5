"""The LoRAs to merge: generated files in the shapes of real models, and files read as plain matrices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tools.make_lora import write_lora

from .shapes import ARCHITECTURES, spread

# Strengths of the LoRAs, in order and repeating.
STRENGTHS = (0.8, 0.6, -0.5, 1.0)
KEY_STYLES = ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight"))


@dataclass(frozen=True, eq=False)
class Term:
    """One LoRA's contribution to a weight: strength * scale * up @ down. ``input_index`` counts LoRAs from 1."""

    up: Tensor
    down: Tensor
    scale: float
    strength: float
    input_index: int

    @property
    def effective_weight(self) -> float:
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
        """Shape and ranks. Modules with the same group take the same time."""
        return (self.rows, self.columns, *(term.up.shape[1] for term in self.terms))


def strength(input_index: int) -> float:
    return STRENGTHS[(input_index - 1) % len(STRENGTHS)]


def generate(
    folder: Path, architecture: str, rank: int, count: int, dtype: str, seed: int = 0, modules: int = 0
) -> list[Path]:
    """Generate ``count`` files, or reuse those in the folder. ``modules`` above 0 limits the number of modules."""
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
            )  # alpha / rank isn't 1, so that a missing scale shows
            os.replace(unfinished, path)
        files.append(path)
    return files


def warm_file_cache(files: Sequence[Path]) -> None:
    """Read the files once, so that every tool finds them in the system's file cache."""
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass


def modules_of(files: Sequence[Mapping[str, Tensor]]) -> list[Module]:
    """The modules of several files as matrices, in order of first appearance.

    Raises ValueError for files with anything but up, down and alpha.
    """
    found: dict[str, list[Term]] = {}
    for input_index, tensors in enumerate(files, 1):
        known = 0
        for key, up in tensors.items():
            suffixes = next((pair for pair in KEY_STYLES if key.endswith(pair[0])), None)
            if suffixes is None:
                continue
            up_suffix, down_suffix = suffixes
            name = key.removesuffix(up_suffix)
            down = tensors[name + down_suffix]
            alpha = tensors.get(name + ".alpha")
            known += 2 if alpha is None else 3
            scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
            term = Term(up.flatten(1), down.flatten(1), scale, strength(input_index), input_index)
            found.setdefault(name, []).append(term)
        if known != len(tensors):
            raise ValueError(
                f"File {input_index} contains tensors other than lora_up, lora_down (or lora_B, lora_A) and alpha. "
                "The benchmark compares plain LoRAs only."
            )
    return [Module(name, tuple(terms)) for name, terms in found.items()]


def first_terms(modules: Sequence[Module]) -> list[Module]:
    """Only the first LoRA's terms, at strength 1: the input of a resize."""
    firsts = []
    for module in modules:
        term = module.terms[0]
        if term.input_index == 1:
            firsts.append(Module(module.name, (Term(term.up, term.down, term.scale, 1.0, 1),)))
    return firsts


def one_of_each(modules: Sequence[Module]) -> list[tuple[Module, int]]:
    """The first module of each shape and rank, and the number of such modules."""
    groups: dict[tuple[int, ...], list[Module]] = {}
    for module in modules:
        groups.setdefault(module.group, []).append(module)
    return [(alike[0], len(alike)) for alike in groups.values()]
