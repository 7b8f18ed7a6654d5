"""Patterns of weight paths, such as `double_blocks.{b}.img_attn.qkv`, and tables that find the pattern of a path.

A pattern is a dotted path with placeholders for numbers: `{b}` for one of the model's blocks, `{n}` and `{m}` for any
other number. A number is a word of its own between dots, or ends a word in `block` (Cosmos 1:
`blocks.block{b}.blocks.0`). `[a|b]` in a table means either one; `expand` writes both out.

Paths are looked up flat, with underscores for dots, because kohya's names have no dots. Two patterns of a table must
therefore still differ once they are flat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Generic, TypeVar

T = TypeVar("T")

_CHOICE = re.compile(r"\[([^]]*)]")
# No number has thousands of digits, which Python would refuse to convert.
_NUMBER = re.compile(r"(?:(?<![^_])|(?<=_block))[0-9]{1,9}(?![^_])")
_SLOT = re.compile(r"\{(\w)}|" + _NUMBER.pattern)


def expand(*patterns: str) -> tuple[str, ...]:
    """The patterns with every `[a|b]` written out, in order."""
    found: list[str] = []
    for pattern in patterns:
        parts = _CHOICE.split(pattern)  # text, choice, text, choice, ..., text
        options = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
        found += ["".join(chosen) for chosen in product(*options)]
    return tuple(found)


def expand_together(own: str, alias: str, line: str) -> list[tuple[str, str]]:
    """Two patterns with every `[a|b]` written out; the n-th option of one side goes with the n-th of the other.

    Raises ValueError, quoting ``line``, if the two sides have different numbers of options.
    """
    sides = [[part.split("|") for part in _CHOICE.findall(pattern)] for pattern in (own, alias)]
    if [len(options) for options in sides[0]] != [len(options) for options in sides[1]]:
        raise ValueError(f"The two sides of this line have different numbers of options: {line!r}")
    return list(zip(expand(own), expand(alias), strict=True))


def flat(path: str) -> str:
    """A dotted path with underscores."""
    return path.replace(".", "_")


def fill(pattern: str, numbers: Mapping[str, str]) -> str:
    """The pattern with these numbers for its placeholders."""
    return pattern.format_map(numbers) if numbers else pattern


def block_list(pattern: str) -> str:
    """The path of the list of blocks that a pattern lies in: everything before `{b}`."""
    return pattern.split("{b}", 1)[0].removesuffix(".")


@lru_cache(maxsize=50_000)
def split_numbers(path: str) -> tuple[str, tuple[str, ...]]:
    """A flat path with # for its numbers, and the numbers: `blocks_3_attn` is `blocks_#_attn` and 3."""
    return _NUMBER.sub("#", path), tuple(_NUMBER.findall(path))


class Table(Generic[T]):
    """Values by pattern. `find` takes as long for a long table as for a short one."""

    def __init__(self, rows: Iterable[tuple[str, T]] = ()) -> None:
        # Three levels: the pattern with # for all its numbers; its slots, which are the placeholders' names and None
        # for a number that the pattern itself has; those numbers.
        self._by_slots: dict[str, dict[tuple[str | None, ...], dict[tuple[str, ...], T]]] = {}
        for pattern, value in rows:
            path = flat(pattern)
            slots = tuple(match.group(1) for match in _SLOT.finditer(path))
            own = tuple(match.group() for match in _SLOT.finditer(path) if not match.group(1))
            values = self._by_slots.setdefault(_SLOT.sub("#", path), {}).setdefault(slots, {})
            if own in values:
                raise ValueError(f"The pattern {pattern} appears twice in one table.")
            values[own] = value
        for by_slots in self._by_slots.values():  # the fewer placeholders a pattern has, the earlier it is tried
            ordered = sorted(by_slots.items(), key=lambda item: sum(slot is not None for slot in item[0]))
            by_slots.clear()
            by_slots.update(ordered)

    @property
    def numberless_paths(self) -> frozenset[str]:
        """The flat patterns with # for all their numbers and placeholders."""
        return frozenset(self._by_slots)

    def find(self, path: str) -> tuple[T, dict[str, str]] | None:
        """The value of the pattern that matches a flat path, and the numbers of its placeholders."""
        numberless, numbers = split_numbers(path)
        for slots, values in self._by_slots.get(numberless, {}).items():
            own = tuple(number for number, slot in zip(numbers, slots, strict=True) if slot is None)
            if own in values:
                return values[own], {slot: n for n, slot in zip(numbers, slots, strict=True) if slot is not None}
        return None
