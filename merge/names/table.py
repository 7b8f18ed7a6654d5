"""A model family as a table: its weights, their shapes, and what else each of them is called.

One line a weight, by its path in ComfyUI's model:

    time_in.in_layer                                  # a weight without another name
    img_in = x_embedder                               # diffusers calls it x_embedder
    img_in : w,64 = x_embedder                        # it has w rows and 64 columns; w is one of the model's sizes
    attn.qkv : 3w,w = attn.(to_q + to_k + to_v)       # fused: the three parts are its rows, top to bottom
    attn.qkv = attn.(to_q:3 + to_k + to_v)            # parts of unequal size; `_` for rows without a name
    final.mod ~ norm_out.linear                       # diffusers stores the two halves of its rows in the other order
    attn.qkv < attn_qkv                               # another spelling that trainers write, not diffusers'
    attn.qkv << attn.in_proj                          # a spelling that ComfyUI reads but nobody writes for this model

`{b}` is the number of one of the model's blocks, `{n}` and `{m}` are any numbers. `[a|b]` stands for either; choices on
the two sides of a line belong together in order. Nothing after `=` means the same path. A line that ends in a dot opens
a group: the indented lines below it continue that path (and the path after its `=`; without one, both sides share it).

`mapped under: transformer. lycoris_` names the prefixes under which ComfyUI has an entry for the *other* spellings in
the lines below (`bare` for none), until the next such line. A path followed by `?` has no spelling of its own that all
supported versions of ComfyUI map; one followed by `!` is a bare parameter, whose key does not end in `.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from .patterns import Table, expand, expand_together

WHOLE = (Fraction(0), Fraction(1))

_LINE = re.compile(
    r"(?P<own>\S+?)(?P<marks>[?!]*)(?:\s+:\s+(?P<shape>\S+))?(?:\s+(?P<relation>=|~|<<|<)(?:\s+(?P<alias>.*))?)?"
)
_PARTS = re.compile(r"(?P<stem>.*)\((?P<parts>[^)]*)\)(?P<rest>.*)")
_TERM = re.compile(r"(\d*)([a-z]*)")
_MAPPED = "mapped under:"


@dataclass(frozen=True)
class Rule:
    """Another spelling of a weight, or of some of its rows.

    ``prefixes`` are those under which every supported ComfyUI that knows the model maps this spelling: with dots where
    the prefix ends in one, flat where it ends in an underscore. ``diffusers``: the module's path in diffusers.
    ``usual``: trainers write it; a spelling that ComfyUI merely reads says nothing about the family.
    """

    alias: str
    weight: str
    start: Fraction = WHOLE[0]
    stop: Fraction = WHOLE[1]
    swapped: bool = False
    prefixes: tuple[str, ...] = ()
    diffusers: bool = True
    usual: bool = True


@dataclass(frozen=True)
class ParsedTable:
    """``shapes`` are (rows, columns) as written: numbers, or multiples of a named size such as "3w"."""

    weights: tuple[str, ...]
    rules: tuple[Rule, ...]
    shapes: Mapping[str, tuple[str, str]]
    unmapped: frozenset[str]
    parameters: frozenset[str]


@cache
def parse(text: str) -> ParsedTable:
    """Read a table. Raises ValueError, quoting the line, for one that does not follow the form above."""
    weights: dict[str, None] = {}
    rules: dict[Rule, None] = {}
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
            rules |= dict.fromkeys(_rules(own, alias, match["relation"], prefixes, line))
    return ParsedTable(tuple(weights), tuple(rules), shapes, frozenset(marked["?"]), frozenset(marked["!"]))


@cache
def own_paths(text: str) -> Table[str]:
    """The table's weights by their own path. Architectures of one table share it."""
    return Table((weight, weight) for weight in parse(text).weights)


@cache
def other_spellings(text: str) -> Table[Rule]:
    """The table's rules by their spelling."""
    return Table((rule.alias, rule) for rule in parse(text).rules)


@cache
def outlines(text: str) -> frozenset[str]:
    """The outlines of every path and spelling: a quick first look at whether a name can be one of the table's."""
    return own_paths(text).outlines | other_spellings(text).outlines


def size_of(term: str, sizes: Mapping[str, int]) -> int:
    """The number that a shape's term stands for: "64", "w" or "3w"."""
    match = _TERM.fullmatch(term)
    if not term or match is None or (match[2] and match[2] not in sizes):
        raise ValueError(f"{term!r} is neither a number nor a multiple of one of the sizes {', '.join(sizes)}.")
    return int(match[1] or 1) * (sizes[match[2]] if match[2] else 1)


def _lines(text: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Each line without its indent, with the two paths that its groups begin and the prefixes in force."""
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


def _rules(own: str, alias: str, relation: str, prefixes: tuple[str, ...], line: str) -> Iterator[Rule]:
    kind = {"prefixes": prefixes, "diffusers": relation in "=~", "usual": relation != "<<"}
    parts = _PARTS.fullmatch(alias)
    if parts is None:
        for weight, name in expand_together(own, alias, line):
            yield Rule(name, weight, swapped=relation == "~", **kind)
        return
    names = [part.strip().partition(":") for part in parts["parts"].split("+")]
    shares = [int(share or 1) for _, _, share in names]
    total, start = sum(shares), 0
    for (name, _, _), share in zip(names, shares, strict=True):
        rows = Fraction(start, total), Fraction(start + share, total)
        start += share
        if name != "_":
            for weight, found in expand_together(own, parts["stem"] + name + parts["rest"], line):
                yield Rule(found, weight, *rows, **kind)
