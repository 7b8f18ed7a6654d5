"""The rows of PM Power Loader: a JSON list in one text widget.

    [{"lora": "ink.safetensors", "on": true, "strength": 0.8, "strength_clip": null, "lbw": ""}]

Only "lora" is required; the others default to true, 1.0, null (the text encoder's strength is ``strength``) and "".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..merge.block_weights.apply import require_notation
from ..merge.errors import LoraError

MOST = 20.0  # as the strength widgets of PM Load LoRA
KEYS = ("lora", "on", "strength", "strength_clip", "lbw")
_EXAMPLE = '[{"lora": "ink.safetensors", "strength": 0.8}]'


@dataclass(frozen=True)
class Row:
    """One LoRA: its file, whether it is on, its strengths, and its block weights."""

    number: int  # from 1
    lora: str
    on: bool
    strength: float
    strength_clip: float
    lbw: str

    @property
    def where(self) -> str:
        return f"rows, row {self.number} ({self.lora})"


def parse_rows(text: object) -> list[Row]:
    """The rows in the widget's text; none in a blank one.

    Raises LoraError, naming the row, for text that is no such list, unknown keys, and values of the wrong type.
    """
    if not isinstance(text, str):
        raise LoraError(f"rows: expected the text of a JSON list, got {type(text).__name__}. Write {_EXAMPLE}.")
    if not text.strip():
        return []
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as problem:
        raise LoraError(f"rows: the text is not a JSON list ({problem}). Write {_EXAMPLE}.") from None
    if not isinstance(found, list):
        raise LoraError(f"rows: the text is a {type(found).__name__}, not a list. Write {_EXAMPLE}.")
    return [_row(entry, number) for number, entry in enumerate(found, 1)]


def require_files(rows: list[Row], exists: Callable[[str], bool]) -> None:
    """Raise LoraError for the first row that is on whose file ComfyUI doesn't have."""
    for row in rows:
        if row.on and not exists(row.lora):
            raise LoraError(
                f"{row.where}: ComfyUI's loras folders have no such file. Choose another, or switch the row off."
            )


def require_block_weights(rows: list[Row], presets: Callable[[], Mapping[str, str]]) -> None:
    """Raise LoraError for the first row that is on whose block weights no LoRA could have."""
    for row in rows:
        if row.on:
            require_notation(row.lbw, row.where, presets)


def _row(entry: object, number: int) -> Row:
    where = f"rows, row {number}"
    if not isinstance(entry, dict):
        raise LoraError(f"{where} is {_shown(entry)}, expected an object. Write {_EXAMPLE}.")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise LoraError(f"{where} has the unknown key {unknown[0]!r}. The keys are {', '.join(KEYS)}.")
    lora = entry.get("lora")
    if not isinstance(lora, str) or not lora.strip():
        raise LoraError(f"{where} names no file: its lora is {_shown(lora)}. Choose a LoRA file, or remove the row.")
    where = f"{where} ({lora})"
    on, lbw = entry.get("on", True), entry.get("lbw", "")
    if not isinstance(on, bool):
        raise LoraError(f"{where}: on is {_shown(on)}, expected true or false.")
    if not isinstance(lbw, str):
        raise LoraError(f"{where}: lbw is {_shown(lbw)}, expected a text.")
    strength = _strength(entry.get("strength", 1.0), "strength", where)
    clip = entry.get("strength_clip")
    strength_clip = strength if clip is None else _strength(clip, "strength_clip", where)
    return Row(number, lora, on, strength, strength_clip, lbw)


def _strength(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LoraError(f"{where}: {key} is {_shown(value)}, expected a number.")
    if not -MOST <= value <= MOST:  # true of NaN too
        raise LoraError(f"{where}: {key} is {_shown(value)}, expected a number from {-MOST:g} to {MOST:g}.")
    return float(value)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {key!r} occurs twice in one row")
        table[key] = value
    return table


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")
