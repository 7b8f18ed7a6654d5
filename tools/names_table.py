"""Generates the table of families in docs/names.md from the data in merge/names.

python -m tools.names_table            write the table into the page
python -m tools.names_table --check    exit with 1 if the page has another table
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from merge.names import ARCHITECTURES, Architecture
from merge.names.patterns import fill

DOCS = Path(__file__).resolve().parents[1] / "docs" / "names.md"
BEGIN, END = "<!-- families: made by tools/names_table.py -->", "<!-- end of families -->"
HEADER = """| family | width, blocks | a path in ComfyUI | the same elsewhere | ComfyUI maps it under | text encoders |
|---|---|---|---|---|---|"""
NUMBERS = {"b": "N", "n": "N", "m": "M"}


def table() -> str:
    families: dict[str, list[Architecture]] = {}
    for architecture in ARCHITECTURES:
        families.setdefault(architecture.family, []).append(architecture)
    rows = ("| " + " | ".join(_row(family, members)) + " |" for family, members in families.items())
    return "\n".join([BEGIN, HEADER, *rows, END])


def _row(family: str, members: list[Architecture]) -> Iterator[str]:
    names = [member.name for member in members]
    yield family if names == [family] else f"{family}: {', '.join(names)}"
    yield "; ".join(dict.fromkeys(_size(member) for member in members))
    first = members[0]
    own, alias, prefixes = _example(first)
    yield f"`{own}`"
    yield f"`{alias}`" if alias else ""
    yield ", ".join(f"`{prefix}`" if prefix else "bare" for prefix in prefixes)
    encoders = dict.fromkeys(encoder.name for member in members for encoder in member.encoders)
    yield ", ".join(encoders)


def _size(architecture: Architecture) -> str:
    # not the depths of a U-Net's attentions
    blocks = [str(count) for path, count in architecture.blocks.items() if "transformer_blocks" not in path[1:]]
    return ", ".join([str(architecture.size), *([" + ".join(blocks)] if blocks else [])])


def _example(architecture: Architecture) -> tuple[str, str, tuple[str, ...]]:
    """A weight, if possible one with an alias: its own path, the alias, and the prefixes that ComfyUI maps it under."""
    for pattern in architecture.weights:
        for alias in architecture.aliases_by_weight.get(pattern, ()):
            if alias.in_use and alias.path != alias.weight and pattern in architecture.shapes:
                return fill(pattern, NUMBERS), fill(alias.path, NUMBERS), alias.prefixes
    shaped = next((pattern for pattern in architecture.weights if pattern in architecture.shapes), "")
    return fill(shaped, NUMBERS), "", ()


def updated(text: str) -> str:
    """The page with today's table between its two markers."""
    before, _, rest = text.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


def main(arguments: list[str]) -> int:
    text = DOCS.read_text("utf-8")
    if arguments == ["--check"]:
        return int(updated(text) != text)
    DOCS.write_text(updated(text), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
