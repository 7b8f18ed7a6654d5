"""Which files XY: PM LoRA Files plots: those of a folder, or those that a text lists."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..merge.errors import LoraError
from ..nodes.stack import ALL_FOLDERS, ORDERS, matching

# The underscore before the epoch or step of a trainer's file, which has six digits or more if no word precedes them.
COUNTED = re.compile(r"_(?=(?:\d{6,}|(?:epoch|step)s?[-_ ]?\d+)\.[^./\\]+$)")
WILDCARDS = {"*": "[^/]*", "?": "[^/]"}


def _natural(name: str) -> tuple[Any, ...]:
    """Numbers in names count as numbers: step-500 comes before step-1000.

    The last file of a training run has no number: "style" comes after "style-000010" because the dot of its ending
    follows the dash. AI Toolkit's "style_000000500" is read as if it had a dash, too.
    """
    parts = re.split(r"(\d+)", COUNTED.sub("-", name.lower()))
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts], name


# Sort keys by widget choice. PM LoRA from Folder sorts names by their letters, and saved workflows rely on that.
FILE_ORDERS: dict[str, Callable[[str], Any]] = {**ORDERS, "name": _natural}


def chosen_files(files: str, folder: str, order: str, limit: int) -> list[str]:
    """The names of the files in their order on the axis, as ComfyUI lists them.

    ``files`` has a name or a pattern in each line; the files of a pattern come in ``order``, each file once. If it is
    empty, all files of the folder come in ``order``. ``limit`` 0 takes all. Raises LoraError, with the line, for one
    that no file fits, and if there is no file at all.
    """
    offered = sorted(matching(folder, "*", "name", 0), key=FILE_ORDERS[order])
    where = "ComfyUI's loras folders" if folder == ALL_FOLDERS else f"the folder {folder}"
    lines = [line.strip() for line in files.splitlines() if line.strip()]
    found = [] if lines else offered
    for line in lines:
        fitting = _fitting(line, offered, folder)
        if not fitting:
            raise LoraError(f"files has {line!r}, which no LoRA file in {where} fits. Check the name and the folder.")
        found += fitting
    if not found:
        raise LoraError(f"There is no LoRA file in {where}. Choose another folder.")
    distinct = list(dict.fromkeys(found))
    return distinct[:limit] if limit else distinct


def _fitting(line: str, names: Sequence[str], folder: str) -> list[str]:
    """The files with this name, with or without folder and ending. A whole path counts for more than a mere name."""
    wanted = re.compile(_pattern(_folded(line.replace("\\", "/"))))
    has_wildcard = any(sign in line for sign in WILDCARDS)
    by_path = [name for name in names if _fits(wanted, _paths(name, folder))]
    if by_path and not has_wildcard:
        return by_path
    return [name for name in names if name in by_path or _fits(wanted, [PurePosixPath(name.replace("\\", "/")).name])]


def _folded(name: str) -> str:
    """In small letters, with one character for a letter and its accent; macOS often stores two."""
    return unicodedata.normalize("NFC", name).lower()


def _pattern(line: str) -> str:
    return "".join(WILDCARDS.get(sign) or re.escape(sign) for sign in line)


def _paths(name: str, folder: str) -> list[str]:
    """The path in ComfyUI's loras folders, and in the chosen folder."""
    path = name.replace("\\", "/")
    return [path] if folder == ALL_FOLDERS else [path, path.removeprefix(f"{folder}/")]


def _fits(wanted: re.Pattern[str], paths: Sequence[str]) -> bool:
    """Whether one of the paths has the wanted spelling, with or without its ending."""
    spellings = [spelling for path in paths for spelling in (path, str(PurePosixPath(path).with_suffix("")))]
    return any(wanted.fullmatch(_folded(spelling)) for spelling in spellings)
