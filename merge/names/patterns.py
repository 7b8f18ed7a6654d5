"""Names with numbers in them: patterns such as `double_blocks.{b}.img_attn.qkv`, and tables that find a name's pattern.

A pattern is a dotted path. `{b}` stands for the number of one of the model's blocks and `{n}` for any other number;
a number stands alone between dots, or behind the word `block` (Cosmos 1: `blocks.block{b}.blocks.0`). `[a|b]` in a
table stands for either, and `expand` writes it out. Paths are looked up *flat*, with underscores for
dots, since kohya's spelling has nothing else: two patterns of one table must stay different when flat.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Generic, TypeVar

T = TypeVar("T")

_CHOICE = re.compile(r"\[([^]]*)]")
# A number that stands alone between underscores. None has thousands of digits, which Python would refuse to read.
_NUMBER = re.compile(r"(?:(?<![^_])|(?<=_block))[0-9]{1,9}(?![^_])")
_PLACE = re.compile(r"\{(\w)}|" + _NUMBER.pattern)


def expand(*patterns: str) -> tuple[str, ...]:
    """The patterns with every `[a|b]` written out, in order."""
    found: list[str] = []
    for pattern in patterns:
        parts = _CHOICE.split(pattern)  # text, choice, text, choice, ..., text
        options = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
        found += ["".join(chosen) for chosen in product(*options)]
    return tuple(found)


def expand_together(own: str, alias: str, line: str) -> list[tuple[str, str]]:
    """Two patterns with every `[a|b]` written out, the choices of one going with those of the other in order.

    Raises ValueError, quoting ``line``, where they don't have as many choices.
    """
    sides = [[part.split("|") for part in _CHOICE.findall(pattern)] for pattern in (own, alias)]
    if [len(options) for options in sides[0]] != [len(options) for options in sides[1]]:
        raise ValueError(f"The choices on the two sides of this line don't belong together: {line!r}")
    return list(zip(expand(own), expand(alias), strict=True))


def flat(path: str) -> str:
    """A dotted path with underscores."""
    return path.replace(".", "_")


def fill(pattern: str, numbers: Mapping[str, str]) -> str:
    """The pattern with these numbers in the places of the same name."""
    return pattern.format_map(numbers) if numbers else pattern


def list_of_blocks(pattern: str) -> str:
    """What a pattern has before the number of its block: the list's path."""
    return pattern.split("{b}", 1)[0].removesuffix(".")


@lru_cache(maxsize=50_000)
def outline_of(path: str) -> tuple[str, tuple[str, ...]]:
    """A flat path's outline, with # for each number that stands alone, and those numbers."""
    return _NUMBER.sub("#", path), tuple(_NUMBER.findall(path))


class Table(Generic[T]):
    """Values by pattern. `find` takes as long for a long table as for a short one."""

    def __init__(self, rows: Iterable[tuple[str, T]] = ()) -> None:
        # outline -> layouts, which say what each number is (a place's name, None for a number that the pattern
        # itself has) -> values by the pattern's own numbers
        self._layouts: dict[str, dict[tuple[str | None, ...], dict[tuple[str, ...], T]]] = {}
        for pattern, value in rows:
            path = flat(pattern)
            layout = tuple(match.group(1) for match in _PLACE.finditer(path))
            own = tuple(match.group() for match in _PLACE.finditer(path) if not match.group(1))
            values = self._layouts.setdefault(_PLACE.sub("#", path), {}).setdefault(layout, {})
            if own in values:
                raise ValueError(f"The pattern {pattern} stands twice in one table.")
            values[own] = value
        for layouts in self._layouts.values():  # the more a pattern says itself, the earlier it is tried
            ordered = sorted(layouts.items(), key=lambda item: sum(place is not None for place in item[0]))
            layouts.clear()
            layouts.update(ordered)

    @property
    def outlines(self) -> frozenset[str]:
        return frozenset(self._layouts)

    def find(self, path: str) -> tuple[T, dict[str, str]] | None:
        """The value of the pattern that a flat path fits, and the numbers in its places."""
        outline, numbers = outline_of(path)
        for layout, values in self._layouts.get(outline, {}).items():
            own = tuple(number for number, place in zip(numbers, layout, strict=True) if place is None)
            if own in values:
                return values[own], {place: n for n, place in zip(numbers, layout, strict=True) if place is not None}
        return None
