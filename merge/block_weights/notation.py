"""Parses the notation of block weights (lbw), which is that of Inspire Pack's LoRA Block Weight.

There are two forms. How they apply to a LoRA is in apply.py.

- a vector, `1,0.5,0,...`: a weight for the base and one for each block.
- the % form, `%default=1,in1-3=0.5,mid=1,out=0`: weights for some blocks, by their group and number.

Inspire's R, U, A and B, and several values for one block, are refused: they stand for random numbers, for widgets of
its node, and for single modules by their order in the file.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_NUMBER = re.compile(r"[+-]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_KEY = re.compile(r"(default|base)|(in|mid|out|double|single|block)(?:([0-9]{1,6})(?:-([0-9]{1,6}))?)?")
_KEYS = "default, base, in, mid, out, double, single and block, with numbers as in in2 or in1-3"
_RANDOM = "a random number in Inspire's notation, but a merge must be reproducible"
_WIDGET = "a widget of Inspire's node, which this node doesn't have"
_LETTERS = {"R": _RANDOM, "U": _RANDOM, "A": _WIDGET, "B": _WIDGET}


class BadNotation(Exception):
    """What is wrong with a text. Callers know where the text comes from and make it a LoraError."""


class Unsupported(BadNotation):
    """Valid in Inspire's notation, but refused here."""


@dataclass(frozen=True)
class BlockRange:
    """One item of the % form: blocks ``first`` to ``last`` of ``group``; None as ``last``: to the end."""

    text: str
    group: str
    first: int
    last: int | None
    weight: float


@dataclass(frozen=True)
class PercentForm:
    """The % form. ``default`` and ``base`` are None if not given."""

    default: float | None
    base: float | None
    ranges: tuple[BlockRange, ...]


def parse(text: str) -> PercentForm | tuple[float, ...]:
    """The % form or the vector in a text. Raises BadNotation."""
    if text.startswith("%"):
        return _parse_percent(text[1:])
    items = enumerate(text.split(","), start=1)
    return tuple(_parse_weight(item.strip(), f"weight {number}") for number, item in items)


def is_value(text: str) -> bool:
    """Whether a text is a single weight, valid or refused, and not the name of a preset."""
    return text.upper() in _LETTERS or bool(_NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text))


def quoted(text: str) -> str:
    """A text in quotes for a message, shortened if it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _parse_percent(text: str) -> PercentForm:
    default = base = None
    ranges: list[BlockRange] = []
    for item in text.split(","):
        key, _, value = (part.strip() for part in item.partition("="))
        match = _KEY.fullmatch(key)
        if not match:
            raise BadNotation(f"{quoted(key)} is not a key of the % form. The keys are {_KEYS}.")
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
        raise BadNotation(f"{blocks.text} has a block 0. Blocks are numbered from 1.")
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
        reason = _LETTERS[text.upper()]
        raise Unsupported(f"{where} is {text}, which stands for {reason}. Write the number itself.")
    raise BadNotation(f"{where} is {quoted(text)}. It must be a finite number.")
