"""Runs ``python -m merge`` on the shipped LoRAs, and samples pictures of the base with the results."""

from __future__ import annotations

import copy
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the command line's package is `merge`, as in a checkout

from benchmarks.evidence.base import FOLDER, MODEL_FILE, STEPS, Base, load_base, sample  # noqa: E402
from benchmarks.evidence.evaluate import patched  # noqa: E402
from benchmarks.evidence.lora_files import read_deltas  # noqa: E402
from benchmarks.evidence.merges import run  # noqa: E402
from benchmarks.evidence.mmdit import MMDiT  # noqa: E402

CONCEPT, STYLE, OTHER_STYLE = (
    str(FOLDER / "loras" / f"{name}.safetensors") for name in ("question-mark", "luckiest-guy", "pacific")
)
CONCEPT_ALONE, STYLE_ALONE, BOTH = "sign ? in lobster", "letter g in luckiest guy", "sign ? in luckiest guy"
PROMPTS = (CONCEPT_ALONE, STYLE_ALONE, BOTH)
OTHER_STYLE_ALONE, OTHER_BOTH = "letter g in pacific", "sign ? in pacific"
SEED = 2
STRENGTH = re.compile(r"(.+?)(?::(-?[\d.]+))?")
BASE_FILE = str(FOLDER / MODEL_FILE)


@dataclass(frozen=True)
class Made:
    """A file that the command line wrote, and what it printed."""

    file: str
    said: str

    @property
    def size(self) -> str:
        """In kB."""
        return f"{Path(self.file).stat().st_size / 1000:.0f} kB"


@cache
def made(command: str, *arguments: str, name: str = "made") -> Made:
    """``python -m merge COMMAND ARGUMENTS -o NAME.safetensors``. Raises RuntimeError with its message if it fails."""
    file = Path(tempfile.mkdtemp(dir=_work().name), f"{name}.safetensors")
    return Made(str(file), run([command, *arguments, "-o", str(file)]))


def merged(*arguments: str) -> str:
    """The file that ``python -m merge merge ARGUMENTS`` writes."""
    return made("merge", *arguments).file


def drawn(
    loras: Sequence[str], prompts: Sequence[str] = (BOTH,), seed: int = SEED, steps: int = STEPS
) -> list[Image.Image]:
    """A picture of each prompt by the base with these LoRAs, each ``FILE`` or ``FILE:STRENGTH``.

    The files are read and added to the base's weights without the pack.
    """
    return drawn_by(with_loras(loras), prompts, seed, steps)


def drawn_by(model: MMDiT, prompts: Sequence[str] = (BOTH,), seed: int = SEED, steps: int = STEPS) -> list[Image.Image]:
    pictures = sample(base(), prompts, [seed] * len(prompts), steps, model)
    return [Image.fromarray((picture * 255).round().astype(np.uint8)) for picture in pictures]


def with_loras(loras: Sequence[str]) -> MMDiT:
    """The base's model with the LoRAs added."""
    model = base().model
    for lora in loras:
        file, strength = STRENGTH.fullmatch(lora).groups("1")  # type: ignore[union-attr] - matches every text
        deltas = read_deltas(Path(file), model.state_dict())
        model = patched(model, {weight: float(strength) * delta for weight, delta in deltas.items()})
    return model


def model_of(file: str) -> MMDiT:
    """The model in a file, such as a baked one."""
    model = copy.deepcopy(base().model)
    model.load_state_dict({name: weight.float() for name, weight in load_file(file).items()})
    return model


@cache
def base() -> Base:
    return load_base()


@cache
def _work() -> tempfile.TemporaryDirectory[str]:
    """Removed when Python ends."""
    return tempfile.TemporaryDirectory()
