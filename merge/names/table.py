"""A model family as a table: its weights, their shapes, and the other names of each.

Each line describes a weight, by its path in ComfyUI's model:

    time_in.in_layer                                  # a weight without other names
    img_in = x_embedder                               # diffusers calls it x_embedder
    img_in : w,64 = x_embedder                        # it has w rows and 64 columns; w is one of the model's sizes
    attn.qkv : 3w,w = attn.(to_q + to_k + to_v)       # fused: to_q, to_k and to_v are its rows, top to bottom
    attn.qkv = attn.(to_q:3 + to_k + to_v)            # rows in the ratio 3 : 1 : 1; `_` for rows without a name
    final.mod ~ norm_out.linear                       # diffusers stores the two halves of its rows in the other order
    attn.qkv < attn_qkv                               # a name that trainers write, but not diffusers
    attn.qkv << attn.in_proj                          # a name that ComfyUI maps but nobody writes for this model

`{b}` is the number of one of the model's blocks, `{n}` and `{m}` are any numbers. `[a|b]` means either one, and the
n-th option on one side of a line goes with the n-th on the other. Nothing after `=` means the same path. A line that
ends in a dot opens a group: the indented lines below it continue its path, and on the right side the path after its
`=`, or the same path if it has none.

`mapped under: transformer. lycoris_` gives the prefixes under which ComfyUI maps the *other* names in the lines below
(`bare` for none), up to the next such line. `?` after a path: no name with the weight's own path is mapped by all
supported versions of ComfyUI. `!` after a path: a bare parameter, whose key doesn't end in `.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from .patterns import Table, expand, expand_together
from .row_range import ALL_ROWS, RowRange

_LINE = re.compile(
    r"(?P<own>\S+?)(?P<marks>[?!]*)(?:\s+:\s+(?P<shape>\S+))?(?:\s+(?P<relation>=|~|<<|<)(?:\s+(?P<alias>.*))?)?"
)
_FUSED = re.compile(r"(?P<stem>.*)\((?P<parts>[^)]*)\)(?P<rest>.*)")
_TERM = re.compile(r"(\d*)([a-z]*)")
_MAPPED = "mapped under:"


@dataclass(frozen=True)
class Alias:
    """Another name of a weight, or of some of its rows.

    ``path`` and ``weight`` are patterns with the same placeholders. ``swapped``: see Target. ``prefixes`` are those
    under which every supported ComfyUI that has the model maps this path: dotted if the prefix ends in a dot, flat if
    it ends in an underscore. ``diffusers``: it is the module's path in diffusers. ``in_use``: somebody writes it; a
    name that ComfyUI only reads is no evidence for the family.
    """

    path: str
    weight: str
    rows: RowRange = ALL_ROWS
    swapped: bool = False
    prefixes: tuple[str, ...] = ()
    diffusers: bool = True
    in_use: bool = True


@dataclass(frozen=True)
class ParsedTable:
    """``shapes`` are (rows, columns) as written: numbers, or multiples of a named size such as "3w"."""

    weights: tuple[str, ...]
    aliases: tuple[Alias, ...]
    shapes: Mapping[str, tuple[str, str]]
    unmapped: frozenset[str]
    parameters: frozenset[str]


@cache
def parse(text: str) -> ParsedTable:
    """Read a table. Raises ValueError, quoting the line, if a line doesn't follow the grammar above."""
    weights: dict[str, None] = {}
    aliases: dict[Alias, None] = {}
    shapes: dict[str, tuple[str, str]] = {}
    marked: dict[str, set[str]] = {"?": set(), "!": set()}
    for line, own_stem, alias_stem, prefixes in _lines(text):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"This line of a family's table can't be read: {line!r}")
        own = own_stem + match["own"]
        found = expand(own)
        weights |= dict.fromkeys(found)
        for mark in match["marks"]:
            marked[mark].update(found)
        if match["shape"]:
            rows, columns = match["shape"].split(",")
            shapes |= dict.fromkeys(found, (rows, columns))
        if match["relation"]:
            alias = alias_stem + (match["alias"] or match["own"]).strip()
            aliases |= dict.fromkeys(_aliases(own, alias, match["relation"], prefixes, line))
    return ParsedTable(tuple(weights), tuple(aliases), shapes, frozenset(marked["?"]), frozenset(marked["!"]))


# All sizes of a family have the same table: these are built once for them.


@cache
def own_paths(text: str) -> Table[str]:
    """The table's weights by their own path."""
    return Table((weight, weight) for weight in parse(text).weights)


@cache
def alias_paths(text: str) -> Table[Alias]:
    """The table's aliases by their path."""
    return Table((alias.path, alias) for alias in parse(text).aliases)


@cache
def numberless_paths(text: str) -> frozenset[str]:
    """All paths of the table with # for numbers: a quick check whether it can know a name at all."""
    return own_paths(text).numberless_paths | alias_paths(text).numberless_paths


def size_of(term: str, sizes: Mapping[str, int]) -> int:
    """The value of a term of a shape: "64", "w" or "3w"."""
    match = _TERM.fullmatch(term)
    if not term or match is None or (match[2] and match[2] not in sizes):
        raise ValueError(f"{term!r} is neither a number nor a multiple of one of the sizes {', '.join(sizes)}.")
    return int(match[1] or 1) * (sizes[match[2]] if match[2] else 1)


def _lines(text: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Each line without its indent, the two paths of the groups around it, and the prefixes that apply to it."""
    groups: list[tuple[int, str, str]] = []  # indent, own stem, alias stem
    prefixes: tuple[str, ...] = ()
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].rstrip()
        stripped = line.strip()
        if not stripped:
            continue
        if stripped.startswith(_MAPPED):
            words = stripped.removeprefix(_MAPPED).split()
            prefixes = tuple("" if word == "bare" else word for word in words)
            continue
        indent = len(line) - len(line.lstrip())
        while groups and indent <= groups[-1][0]:
            groups.pop()
        own_stem, alias_stem = groups[-1][1:] if groups else ("", "")
        own, _, alias = (part.strip() for part in stripped.partition(" = "))
        if own.endswith("."):
            groups.append((indent, own_stem + own, alias_stem + (alias or own)))
        else:
            yield stripped, own_stem, alias_stem, prefixes


def _aliases(own: str, alias: str, relation: str, prefixes: tuple[str, ...], line: str) -> Iterator[Alias]:
    kind = {"prefixes": prefixes, "diffusers": relation in "=~", "in_use": relation != "<<"}
    fused = _FUSED.fullmatch(alias)
    if fused is None:
        for weight, path in expand_together(own, alias, line):
            yield Alias(path, weight, swapped=relation == "~", **kind)
        return
    names = [part.strip().partition(":") for part in fused["parts"].split("+")]
    heights = [int(height or 1) for _, _, height in names]
    total, start = sum(heights), 0
    for (name, _, _), height in zip(names, heights, strict=True):
        rows = RowRange(Fraction(start, total), Fraction(start + height, total))
        start += height
        if name != "_":
            for weight, path in expand_together(own, fused["stem"] + name + fused["rest"], line):
                yield Alias(path, weight, rows, **kind)
