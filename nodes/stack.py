"""LORA_STACK, the list of (file, model strength, text encoder strength) that many packs exchange, and nodes for it.

Efficiency's LoRA Stacker, Comfyroll and Lora-Manager, among others, output such stacks.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.block_weights.apply import with_block_weights
from ..merge.errors import LoraError
from ..merge.files import load
from ..merge.formats.trainer_scale import AlphaFrom
from . import comfy_bridge, presets
from .files_read import FilesRead
from .inputs import LOAD_CATEGORY, strength_input

LORA_STACK = "LORA_STACK"
NONE = "None"
ROWS = 4
ALL_FOLDERS = "/"


class StackEntry(tuple):
    """(file, model strength, text encoder strength): a plain tuple to every pack.

    ``lbw`` and ``alpha_from`` are those of PM Load LoRA. Other packs pass the entry on or read its three values, and
    don't know about these two.
    """

    lbw: str
    alpha_from: AlphaFrom

    def __new__(
        cls,
        file: str,
        strength_model: float,
        strength_clip: float,
        lbw: str = "",
        alpha_from: AlphaFrom = "trainer",
    ) -> StackEntry:
        entry = super().__new__(cls, (file, strength_model, strength_clip))
        entry.lbw, entry.alpha_from = lbw, alpha_from
        return entry

    def __getnewargs__(self) -> tuple[object, ...]:  # for copies: a tuple's own would pass one argument
        return (*self, self.lbw, self.alpha_from)


def display_name(file: str) -> str:
    """How messages refer to a LoRA file: its path in the loras folder with forward slashes and without extension."""
    return PureWindowsPath(file).with_suffix("").as_posix()


def stack_input(tooltip: str) -> tuple[str, dict]:
    return (LORA_STACK, {"tooltip": tooltip})


_files_read = FilesRead(comfy_bridge.file_state)


def stack_state(inputs: Mapping[str, object]) -> int:
    """IS_CHANGED for a node that may take a stack: a new value when a file of any stack has changed.

    IS_CHANGED can't see which files a connected stack contains, and another pack's stack node may not notice that one
    has changed. So if any file that was ever read for a stack changes, every merge of a stack runs again.
    """
    return _files_read.changes() if "lora_stack" in inputs else 0


def stacked_loras(stack: object, name: str = "lora_stack") -> list[Lora]:
    """Load the LoRAs of a stack. Raises LoraError naming the entry at fault."""
    loras = []
    for entry in entries(stack, name):
        file, strength_model, strength_clip = entry
        _files_read.note(file)
        path = comfy_bridge.find_lora(file)
        if path is None:
            raise LoraError(f"{name}: ComfyUI's loras folders have no file {file}.")
        lora = load(path, display_name(file), comfy_bridge.check_interrupt, entry.alpha_from)
        lora = lora.with_strengths(strength_model, strength_clip)
        loras.append(with_block_weights(lora, entry.lbw, presets.read))
    return loras


def entries(stack: object, name: str = "lora_stack") -> list[StackEntry]:
    """The entries of a stack from any pack, without empty rows. Raises LoraError if it isn't a stack."""
    if stack is None:
        return []
    if not isinstance(stack, (list, tuple)):
        raise LoraError(f"{name}: expected a LoRA stack, got {type(stack).__name__}.")
    return [entry for number, row in enumerate(stack, 1) if (entry := _entry(row, f"{name}, entry {number}"))]


def _entry(row: Any, where: str) -> StackEntry | None:
    if not isinstance(row, (list, tuple)) or len(row) < 3 or not isinstance(row[0], str):
        raise LoraError(f"{where} is {row!r}, expected a file name and two strengths.")
    try:
        strengths = float(row[1]), float(row[2])
    except (TypeError, ValueError):
        strengths = math.nan, math.nan
    if row[0] in (NONE, ""):
        return None
    if not all(map(math.isfinite, strengths)):
        raise LoraError(f"{where} ({row[0]}): the strengths {row[1]!r} and {row[2]!r} are not two numbers.")
    return StackEntry(row[0], *strengths, getattr(row, "lbw", ""), getattr(row, "alpha_from", "trainer"))


class StackLoras:
    DESCRIPTION = (
        "Builds a LoRA stack, the list of files and strengths that many packs exchange. Connect it to either merge "
        "node here, or to another pack's node with a lora_stack input. For more rows, chain several PM LoRA Stack "
        "nodes."
    )
    CATEGORY = LOAD_CATEGORY
    SEARCH_ALIASES = ["lora stacker", "lora list", "power merge"]
    RETURN_TYPES = (LORA_STACK,)
    OUTPUT_TOOLTIPS = ("The stack. Connect it to lora_stack of a merge node, or of another pack's node.",)
    FUNCTION = "stack"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        files = [NONE, *comfy_bridge.lora_names()]
        rows: dict[str, tuple] = {}
        for row in _rows():
            rows[f"lora_{row}"] = (
                files,
                {"default": NONE, "tooltip": "The LoRA file for this row. None skips it."},
            )
            rows[f"strength_model_{row}"] = strength_input("Strength of this LoRA in the model.")
            rows[f"strength_clip_{row}"] = strength_input("Strength of this LoRA in the text encoder.")
        tooltip = "A stack, from this pack or another, to put before these rows."
        return {"required": rows, "optional": {"lora_stack": stack_input(tooltip)}}

    @classmethod
    def IS_CHANGED(cls, **rows: Any) -> str:
        names = [rows.get(f"lora_{row}") for row in _rows()]
        return str([comfy_bridge.file_state(name) for name in names if name and name != NONE])

    def stack(self, lora_stack: object = None, **rows: Any) -> tuple[list[StackEntry]]:
        own = [tuple(rows[f"{part}_{row}"] for part in ("lora", "strength_model", "strength_clip")) for row in _rows()]
        return (entries(lora_stack) + entries(own, "this stack"),)


def _rows() -> range:
    return range(1, ROWS + 1)


# Sort keys for file names, by widget choice.
ORDERS = {
    "name": lambda name: (name.lower(), name),
    "newest first": lambda name: (-comfy_bridge.lora_path(name).stat().st_mtime_ns, name),
    "oldest first": lambda name: (comfy_bridge.lora_path(name).stat().st_mtime_ns, name),
}


class LorasFromFolder:
    DESCRIPTION = (
        "Makes a LoRA stack of all files in a folder, to merge them at once: the checkpoints of a training run, say, "
        "or a folder of styles."
    )
    CATEGORY = LOAD_CATEGORY
    SEARCH_ALIASES = ["lora folder", "load lora folder", "batch lora", "power merge"]
    RETURN_TYPES = (LORA_STACK,)
    OUTPUT_TOOLTIPS = ("The files as a stack, in order. Connect it to lora_stack of a merge node.",)
    FUNCTION = "list_folder"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "folder": (
                    folders(comfy_bridge.lora_names()),
                    {
                        "default": ALL_FOLDERS,
                        "tooltip": "The folder, inside ComfyUI's loras folders. Subfolders are included; / means all.",
                    },
                ),
                "pattern": (
                    "STRING",
                    {
                        "default": "*",
                        "tooltip": "Names of the files to include. * matches any text, ? a single character (epoch-*).",
                    },
                ),
                "order": (
                    list(ORDERS),
                    {
                        "default": "name",
                        "tooltip": "The order in which files are merged, and in which limit counts them.",
                    },
                ),
                "limit": (
                    "INT",
                    {"default": 0, "min": 0, "max": 1000, "tooltip": "The maximum number of files. 0 takes all."},
                ),
                "strength_model": strength_input("Strength of every LoRA in the model."),
                "strength_clip": strength_input("Strength of every LoRA in the text encoder."),
            }
        }

    @classmethod
    def IS_CHANGED(
        cls,
        folder: str | None = None,
        pattern: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        **_: object,
    ) -> str:
        if folder is None or pattern is None or order is None or limit is None:  # it comes from a link
            return f"{_listings.changes()} changes"
        return str(_listing((folder, pattern, order, limit)))

    def list_folder(
        self, folder: str, pattern: str, order: str, limit: int, strength_model: float, strength_clip: float
    ) -> tuple[list[StackEntry]]:
        _listings.note((folder, pattern, order, limit))
        names = matching(folder, pattern, order, limit)
        if not names:
            where = "ComfyUI's loras folders" if folder == ALL_FOLDERS else f"the folder {folder}"
            raise LoraError(f"No LoRA file in {where} matches {pattern!r}.")
        return ([StackEntry(name, strength_model, strength_clip) for name in names],)


def matching(folder: str, pattern: str, order: str, limit: int) -> list[str]:
    """The files in a folder and its subfolders whose name, with or without extension, matches the pattern."""
    found = [
        name
        for name in comfy_bridge.lora_names()
        if (folder == ALL_FOLDERS or folder in _parents(name)) and _matches(PurePosixPath(_posix(name)), pattern)
    ]
    found.sort(key=ORDERS[order])
    return found[:limit] if limit else found


def _listing(query: tuple[str, str, str, int]) -> list[tuple[str, object]]:
    """The files that match, with their states."""
    return [(name, comfy_bridge.file_state(name)) for name in matching(*query)]


_listings = FilesRead(_listing)


def _matches(path: PurePosixPath, pattern: str) -> bool:
    # only * and ? have a meaning: brackets are common in file names
    wanted = re.sub(r"\[", "[[]", pattern.strip().lower()) or "*"
    return any(fnmatch.fnmatchcase(name.lower(), wanted) for name in (path.name, path.stem))


def folders(names: Sequence[str]) -> list[str]:
    """The folders of these files, below ComfyUI's loras folders, after a choice for all of them."""
    return [ALL_FOLDERS, *sorted({folder for name in names for folder in _parents(name)})]


def _parents(name: str) -> list[str]:
    """The folders that contain a file, below the loras folder: a/b and a for a/b/file."""
    return [str(parent) for parent in PurePosixPath(_posix(name)).parents][:-1]


def _posix(name: str) -> str:
    return PureWindowsPath(name).as_posix()
