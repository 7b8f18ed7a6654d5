"""A LoRA on the command line: FILE[:STRENGTH[:TEXT_ENCODER_STRENGTH]][:BLOCK_WEIGHTS]."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..adapters.base import Lora
from ..block_weights.apply import with_block_weights
from ..block_weights.presets import read_presets
from ..errors import LoraError
from ..files import READABLE, load
from ..formats.trainer_scale import AlphaFrom
from ..names.recognition import architecture_named

SYNTAX = "FILE[:STRENGTH[:TEXT_ENCODER_STRENGTH]][:BLOCK_WEIGHTS]"
SYNTAX_HELP = (
    f"{SYNTAX}. The strength defaults to 1, the text encoder's to the model's. Block weights are a preset's name "
    "(SD-OUT), a list that starts with the base weight (1,0,0.5,...) or named blocks (mid=0,out1-3=0.5)"
)

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
# A path ends with the last known file ending before a colon, so it may hold colons itself: C:\a.safetensors, 12:30/a.pt
_KNOWN_ENDING = re.compile(
    rf"(?P<path>.+(?:{'|'.join(map(re.escape, READABLE))}))(?::(?P<settings>.*))?", re.IGNORECASE | re.DOTALL
)
# Without a known ending: up to the first colon of the last part.
_OTHER_ENDING = re.compile(r"(?P<path>(?:[A-Za-z]:)?(?:.*[\\/])?[^:]+)(?::(?P<settings>.*))?", re.DOTALL)


@dataclass(frozen=True)
class InputFile:
    path: Path
    strength_model: float = 1.0
    strength_clip: float = 1.0
    block_weights: str = ""

    def load(self, alpha_from: AlphaFrom) -> Lora:
        """Read the file. Raises LoraError if that fails, or if the block weights don't fit it."""
        lora = load(self.path, alpha_from=alpha_from).with_strengths(self.strength_model, self.strength_clip)
        return with_block_weights(lora, self.block_weights, _presets)


def parse_input(text: str) -> InputFile:
    """What an argument means. Raises LoraError for a strength that isn't a number."""
    match = _KNOWN_ENDING.fullmatch(text) or _OTHER_ENDING.fullmatch(text)
    if match is None or match["settings"] is None:
        return InputFile(Path(text))
    strengths, rest = _split_settings(match["settings"])
    model = _finite(strengths[0], text) if strengths else 1.0
    clip = _finite(strengths[1], text) if len(strengths) > 1 else model
    return InputFile(Path(match["path"]), model, clip, _block_weights(rest, text) if rest is not None else "")


def of_family(lora: Lora, family: str | None) -> Lora:
    return lora if family is None else replace(lora, architecture=architecture_named(family))


def _split_settings(settings: str) -> tuple[list[str], str | None]:
    """The one or two numbers at the start, and what follows them; None if nothing does."""
    parts = settings.split(":")
    count = 0
    while count < min(2, len(parts)) and _NUMBER.fullmatch(parts[count].strip()):
        count += 1
    return parts[:count], ":".join(parts[count:]) if len(parts) > count else None


def _finite(number: str, text: str) -> float:
    if not math.isfinite(float(number)):
        raise LoraError(f"{text}: the strength {number} is too large.")
    return float(number)


def _block_weights(rest: str, text: str) -> str:
    rest = rest.strip()
    if "=" in rest and not rest.split(":")[-1].startswith("%"):
        return f"%{rest}"  # a bare % is awkward in Windows' cmd.exe
    if "," in rest or "=" in rest or rest in _presets():
        return rest
    if not rest:
        raise LoraError(f"{text}: nothing follows the last colon. Write a strength, e.g. 0.8, or remove the colon.")
    if _NUMBER.fullmatch(rest):
        raise LoraError(f"{text}: it has more than two strengths. Write FILE:MODEL:TEXT_ENCODER.")
    raise LoraError(
        f"{text}: the strength {rest!r} is not a number, and there is no preset of block weights with that name. "
        "Write FILE:STRENGTH, e.g. a.safetensors:0.8."
    )


@cache
def _presets() -> Mapping[str, str]:
    return read_presets()
