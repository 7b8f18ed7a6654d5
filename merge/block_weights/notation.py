"""What a text of block weights (lbw) says, whatever LoRA it is for. The notation is told in blocks.py."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_NUMBER = re.compile(r"[+-]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_KEY = re.compile(r"(default|base)|(in|mid|out|double|single|block)(?:([0-9]{1,6})(?:-([0-9]{1,6}))?)?")
_KEYS = "default, base, in, mid, out, double, single and block, with numbers as in in2 or in1-3"
_LETTERS = {
    "R": "a random number in Inspire's notation, and a merge must come out the same each time",
    "U": "a random number in Inspire's notation, and a merge must come out the same each time",
    "A": "a widget of Inspire's node, which is not here",
    "B": "a widget of Inspire's node, which is not here",
}


class BadNotation(Exception):
    """What is wrong with a text; whoever knows where the text is from makes it a LoraError."""


class Unsupported(BadNotation):
    """Valid in Inspire's notation, and refused here."""


@dataclass(frozen=True)
class BlockRange:
    """One item of the `%` form: blocks ``first`` to ``last`` (None: to the end) of ``group``."""

    text: str
    group: str
    first: int
    last: int | None
    weight: float


@dataclass(frozen=True)
class PercentForm:
    """The `%` form. None: not given."""

    default: float | None
    base: float | None
    ranges: tuple[BlockRange, ...]


def parse(text: str) -> PercentForm | tuple[float, ...]:
    """The `%` form or the vector that ``text`` is."""
    if text.startswith("%"):
        return _parse_percent(text[1:])
    items = enumerate(text.split(","), start=1)
    return tuple(_parse_weight(item.strip(), f"weight {number}") for number, item in items)


def is_value(text: str) -> bool:
    """Whether this is written as a single weight, be it one that is taken or not."""
    return text.upper() in _LETTERS or bool(_NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text))


def quoted(text: str) -> str:
    """``text`` in quotes for a message, cut where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _parse_percent(text: str) -> PercentForm:
    default = base = None
    ranges: list[BlockRange] = []
    for item in text.split(","):
        key, _, value = (part.strip() for part in item.partition("="))
        match = _KEY.fullmatch(key)
        if not match:
            raise BadNotation(f"{quoted(key)} is no key of the % form. The keys are {_KEYS}.")
        weight = _parse_weight(value, f"the value of {key}")
        whole, group, first, last = match.groups()
        if whole == "default":
            default = weight
        elif whole == "base":
            base = weight
        elif not first:
            ranges.append(BlockRange(key, group, 1, None, weight))
        else:
            ranges.append(_ascending(BlockRange(key, group, int(first), int(last or first), weight)))
    return PercentForm(default, base, tuple(ranges))


def _ascending(blocks: BlockRange) -> BlockRange:
    if blocks.first < 1:
        raise BadNotation(f"{blocks.text} names a block 0. Blocks count from 1.")
    if blocks.last is not None and blocks.last < blocks.first:
        raise BadNotation(f"{blocks.text} runs backwards. Write {blocks.group}{blocks.last}-{blocks.first}.")
    return blocks


def _parse_weight(text: str, where: str) -> float:
    if not text:
        raise BadNotation(f"{where} is missing. Write a number, such as 0.5.")
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if not all(is_value(value) for value in text.split()):
        raise BadNotation(f"{where}, {quoted(text)}, is not a number.")
    if len(text.split()) > 1:
        raise Unsupported(f"{where} has several values ({text[:60]}). Write one number for the whole block.")
    if text.upper() in _LETTERS:
        meaning = _LETTERS[text.upper()]
        raise Unsupported(f"{where} is {text}, which stands for {meaning}. Write the number itself.")
    raise BadNotation(f"{where} is {quoted(text)}. It must be a finite number.")
