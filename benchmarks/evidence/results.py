"""The file of a run's results: small enough for the repository, complete enough for every table and interval.

For each case and setting it holds one line: for each picture 0 to 3 (1: the character is right, 2: the font is), the
mean distance to the true pictures, how many of the known pairs are still right, and how far their pictures moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .units import read_json


@dataclass(frozen=True)
class Evaluation:
    stratum: str
    half: str
    pair: str
    seed: int
    loras: tuple[str, ...]
    setting: str
    concept: tuple[int, ...]
    style: tuple[int, ...]
    distance: float
    known: float  # share of the known pairs that are right
    moved: float

    @property
    def case(self) -> str:
        return f"{self.stratum}|{self.half}|{self.pair}|{self.seed}"

    @property
    def both(self) -> tuple[int, ...]:
        return tuple(a * b for a, b in zip(self.concept, self.style, strict=True))


@dataclass(frozen=True)
class Results:
    """``about``: how the run was made, for the report's text."""

    about: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...]

    def of(self, stratum: str, half: str | None = None, setting: str | None = None) -> dict[str, Evaluation]:
        """The evaluations of a stratum by case."""
        settings = self._by_setting.get(stratum, {})
        found = settings.values() if setting is None else [settings.get(setting, [])]
        return {one.case: one for several in found for one in several if half in (None, one.half)}

    @cached_property
    def _by_setting(self) -> dict[str, dict[str, list[Evaluation]]]:
        """By stratum and setting: a page asks thousands of times."""
        found: dict[str, dict[str, list[Evaluation]]] = {}
        for one in self.evaluations:
            found.setdefault(one.stratum, {}).setdefault(one.setting, []).append(one)
        return found

    def settings(self, stratum: str, half: str) -> list[str]:
        return list(
            dict.fromkeys(one.setting for one in self.evaluations if (one.stratum, one.half) == (stratum, half))
        )


def collect(files: Iterable[Path], about: Mapping[str, Any]) -> Results:
    """The results in the files of a run."""
    return Results(about, tuple(map(evaluation_in, files)))


def evaluation_in(path: Path) -> Evaluation:
    raw = read_json(path)
    return Evaluation(
        *(raw["stratum"], raw["half"], raw["pair"], raw["seed"]),
        tuple(f"{name}:{strength:g}" for name, strength in raw["loras"]),
        raw["setting"],
        tuple(raw["concept"]),
        tuple(raw["style"]),
        round(float(np.mean(raw["distance"])), 4),
        round(float(np.mean(raw["known"])), 4),
        round(float(np.mean(raw["moved"])), 4),
    )


def write(results: Results, path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {}
    for one in results.evaluations:
        case = cases.setdefault(one.case, {"loras": list(one.loras), "settings": {}})
        digits = "".join(str(c + 2 * s) for c, s in zip(one.concept, one.style, strict=True))
        case["settings"][one.setting] = f"{digits} {one.distance:g} {one.known:g} {one.moved:g}"
    content = json.dumps({"about": results.about, "cases": cases}, indent=0, ensure_ascii=False)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(content + "\n", "utf-8", newline="\n")
    unfinished.replace(path)


def read(path: Path) -> Results:
    content = read_json(path)
    found = []
    for case, held in content["cases"].items():
        stratum, half, pair, seed = case.split("|")
        for setting, line in held["settings"].items():
            digits, distance, known, moved = line.split()
            found.append(
                Evaluation(
                    *(stratum, half, pair, int(seed), tuple(held["loras"]), setting),
                    tuple(int(digit) & 1 for digit in digits),
                    tuple(int(digit) >> 1 for digit in digits),
                    *(float(distance), float(known), float(moved)),
                )
            )
    return Results(content["about"], tuple(found))
