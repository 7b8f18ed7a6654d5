"""Presets of block weights: the pack's own, and files of the user's.

A line of a preset file is NAME:WEIGHTS in either form of the notation, as in Inspire's file; # begins a comment.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import LoraError
from .notation import BadNotation, Unsupported, is_value, parse, quoted

SHIPPED_PRESETS = Path(__file__).parents[2] / "block_presets.txt"
# The name of the user's own file. A file in the pack's folder is lost when the pack is reinstalled, so ComfyUI's nodes
# also look into the folder of ComfyUI's user.
USER_PRESETS_NAME = "block_presets.user.txt"
PACK_USER_PRESETS = SHIPPED_PRESETS.with_name(USER_PRESETS_NAME)

# Weights by the preset's name.
Presets = Mapping[str, str]


def preset_files(*more: Path) -> tuple[Path, ...]:
    """The pack's own presets, then the user's in the pack's folder and those in ``more``, if these exist."""
    return (SHIPPED_PRESETS, *(path for path in (PACK_USER_PRESETS, *more) if path.exists()))


def read_presets(*paths: Path) -> dict[str, str]:
    """The presets in these files; a later line or file overrides an earlier one.

    Without paths: those in the pack's folder. Lines that are valid in Inspire's file are read even if
    ``with_block_weights`` would refuse them. Raises LoraError for a file that can't be read or an invalid line.
    """
    presets: dict[str, str] = {}
    for path in paths or preset_files():
        for number, line in enumerate(_read_lines(path), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                try:
                    name, value = _parse_preset(line)
                except BadNotation as problem:
                    raise LoraError(f"{path.name}, line {number}: {problem}") from None
                presets[name] = value
    return presets


def expand(spec: str, presets: Presets | Callable[[], Presets] | None) -> str:
    """The vector or % form of ``spec``, which can be a preset's name or a preset with its name (`NAME:1,0.5,...`).

    ``presets`` as in ``with_block_weights``. Raises BadNotation for a name that isn't among them.
    """
    if spec.startswith("%"):
        return spec
    text = spec.rsplit(":", 1)[-1].strip()
    if not text:
        raise BadNotation("nothing follows the colon. Write the weights after it, or only the preset's name.")
    if text.startswith("%") or "," in text:
        return text
    if not isinstance(presets, Mapping):
        presets = (presets or read_presets)()
    if text in presets:
        return presets[text].strip()
    if all(is_value(value) for value in text.split()):
        return text
    raise BadNotation(f"there is no preset {quoted(text)}. {_suggestion(text, presets)}")


def _read_lines(path: Path) -> list[str]:
    try:
        # not splitlines(), which also splits at characters that no editor counts as a line break
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise LoraError(f"The block presets {path.name} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise LoraError(f"The block presets {path.name} aren't UTF-8 text. Save the file as UTF-8.") from None


def _parse_preset(line: str) -> tuple[str, str]:
    name, colon, value = (part.strip() for part in line.partition(":"))
    if not colon or not name or not value:
        raise BadNotation("this is not a preset. Write NAME:1,0.5,... or NAME:%default=1,...")
    if "," in name or name.startswith("%"):
        raise BadNotation(f"{quoted(name)} looks like weights. Write a name before the colon.")
    try:
        parse(value)
    except Unsupported:
        pass  # refused when it is used: the other presets of the file are good
    return name, value


def _suggestion(name: str, presets: Presets) -> str:
    by_folded_name = {preset.casefold(): preset for preset in presets}
    near = difflib.get_close_matches(name.casefold()[:60], by_folded_name)
    if near:
        return f"Did you mean {' or '.join(by_folded_name[match] for match in near)}?"
    return f"The presets are {', '.join(presets)}." if presets else "There are no presets."
