"""LORA_STACK, the list of (file, model strength, text encoder strength) that many packs exchange, and nodes for it.

Efficiency's LoRA Stacker, Comfyroll and Lora-Manager emit them, among others.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.files import load
from . import comfy_bridge
from .inputs import CATEGORY, strength_input
from .load import display_name

LORA_STACK = "LORA_STACK"
NONE = "None"
ROWS = 4
EVERYTHING = "/"

Entry = tuple[str, float, float]


def stack_input(tooltip: str) -> tuple[str, dict]:
    return (LORA_STACK, {"tooltip": tooltip})


class _FilesRead:
    """The files that mergers have read by way of stacks, as they were then."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[int, ...] | None] = {}
        self._changes = 0

    def note(self, file: str) -> None:
        self._states[file] = comfy_bridge.file_state(file)

    def changes(self) -> int:
        """How often one of them was found changed: a new number when one has changed since it was read."""
        now = {file: comfy_bridge.file_state(file) for file in self._states}
        if now != self._states:
            self._states = now
            self._changes += 1
        return self._changes


_files_read = _FilesRead()


def stack_state(inputs: Mapping[str, object]) -> int:
    """For IS_CHANGED of a node with a stack among its inputs: changes when a file of a stack has changed.

    ComfyUI doesn't say there which files a connected stack holds, and another pack's stack node may not notice their
    changes. So a change of any file that was read for a stack makes every merge of a stack anew.
    """
    return _files_read.changes() if "lora_stack" in inputs else 0


def stacked_loras(stack: object, name: str = "lora_stack") -> list[Lora]:
    """The LoRAs of a stack, read from their files. Raises LoraError that names the entry that is wrong."""
    loras = []
    for file, strength_model, strength_clip in entries(stack, name):
        _files_read.note(file)
        path = comfy_bridge.find_lora(file)
        if path is None:
            raise LoraError(f"{name}: there is no file {file} in ComfyUI's loras folders.")
        lora = load(path, display_name(file), comfy_bridge.check_interrupt)
        loras.append(lora.with_strengths(strength_model, strength_clip))
    return loras


def entries(stack: object, name: str = "lora_stack") -> list[Entry]:
    """A stack of any pack, its empty rows left out. Raises LoraError where it is none."""
    if stack is None:
        return []
    if not isinstance(stack, (list, tuple)):
        raise LoraError(f"What is connected to {name} is no LoRA stack but a {type(stack).__name__}.")
    return [entry for number, row in enumerate(stack, 1) if (entry := _entry(row, f"{name}, entry {number}"))]


def _entry(row: Any, where: str) -> Entry | None:
    if not isinstance(row, (list, tuple)) or len(row) < 3 or not isinstance(row[0], str):
        raise LoraError(f"{where} is {row!r}; it must be a file name and two strengths.")
    try:
        strengths = float(row[1]), float(row[2])
    except (TypeError, ValueError):
        raise LoraError(f"{where} ({row[0]}) has the strengths {row[1]!r} and {row[2]!r}, not two numbers.") from None
    return None if row[0] in (NONE, "") else (row[0], *strengths)


class StackLoras:
    DESCRIPTION = (
        "Makes a LoRA stack, the list of files and strengths that many packs exchange: for both mergers here, and for "
        "what takes a lora_stack elsewhere. For more rows connect one PM LoRA Stack to the next."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["lora stacker", "lora list", "power merge"]
    RETURN_TYPES = (LORA_STACK,)
    OUTPUT_TOOLTIPS = ("The stack. Connect it to lora_stack of a merger, or of a node of another pack.",)
    FUNCTION = "stack"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        files = [NONE, *comfy_bridge.lora_names()]
        rows: dict[str, tuple] = {}
        for row in _rows():
            rows[f"lora_{row}"] = (files, {"default": NONE, "tooltip": "A file; None leaves this row out."})
            rows[f"strength_model_{row}"] = strength_input("How much this LoRA counts in the model.")
            rows[f"strength_clip_{row}"] = strength_input("How much this LoRA counts in the text encoder.")
        tooltip = "A stack that comes before this one's rows, of this pack or another."
        return {"required": rows, "optional": {"lora_stack": stack_input(tooltip)}}

    @classmethod
    def IS_CHANGED(cls, **rows: Any) -> str:
        names = [rows.get(f"lora_{row}") for row in _rows()]
        return str([comfy_bridge.file_state(name) for name in names if name and name != NONE])

    def stack(self, lora_stack: object = None, **rows: Any) -> tuple[list[Entry]]:
        own = [tuple(rows[f"{part}_{row}"] for part in ("lora", "strength_model", "strength_clip")) for row in _rows()]
        return (entries(lora_stack) + entries(own, "this stack"),)


def _rows() -> range:
    return range(1, ROWS + 1)


# How the files of a folder are sorted, by name of the choice.
ORDERS = {
    "name": lambda name: (name.lower(), name),
    "newest first": lambda name: (-comfy_bridge.lora_path(name).stat().st_mtime_ns, name),
    "oldest first": lambda name: (comfy_bridge.lora_path(name).stat().st_mtime_ns, name),
}


class LorasFromFolder:
    DESCRIPTION = (
        "All LoRA files of a folder as a stack, to merge them at once: the checkpoints of a training run, "
        "or a folder of styles."
    )
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["lora folder", "load lora folder", "batch lora", "power merge"]
    RETURN_TYPES = (LORA_STACK,)
    OUTPUT_TOOLTIPS = ("The files as a stack, in order. Connect it to lora_stack of a merger.",)
    FUNCTION = "list_folder"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {
                "folder": (
                    _folders(comfy_bridge.lora_names()),
                    {"default": EVERYTHING, "tooltip": "A folder below ComfyUI's loras folders, with those in it."},
                ),
                "pattern": (
                    "STRING",
                    {
                        "default": "*",
                        "tooltip": "Which files, by name: * stands for any text, ? for one letter (epoch-*).",
                    },
                ),
                "order": (list(ORDERS), {"default": "name", "tooltip": "The order of the merge, and of the limit."}),
                "limit": (
                    "INT",
                    {"default": 0, "min": 0, "max": 1000, "tooltip": "Take so many files at most. 0: all."},
                ),
                "strength_model": strength_input("How much each LoRA counts in the model."),
                "strength_clip": strength_input("How much each LoRA counts in the text encoder."),
            }
        }

    @classmethod
    def IS_CHANGED(cls, folder: str, pattern: str, order: str, limit: int, **_: object) -> str:
        return str([(name, comfy_bridge.file_state(name)) for name in matching(folder, pattern, order, limit)])

    def list_folder(
        self, folder: str, pattern: str, order: str, limit: int, strength_model: float, strength_clip: float
    ) -> tuple[list[Entry]]:
        names = matching(folder, pattern, order, limit)
        if not names:
            where = "ComfyUI's loras folders hold" if folder == EVERYTHING else f"The folder {folder} holds"
            raise LoraError(f"{where} no LoRA file whose name fits {pattern!r}.")
        return ([(name, strength_model, strength_clip) for name in names],)


def matching(folder: str, pattern: str, order: str, limit: int) -> list[str]:
    """The files below a folder whose name, with or without its ending, fits the pattern."""
    found = [
        name
        for name in comfy_bridge.lora_names()
        if (folder == EVERYTHING or folder in _above(name)) and _fits(PurePosixPath(_posix(name)), pattern)
    ]
    found.sort(key=ORDERS[order])
    return found[:limit] if limit else found


def _fits(path: PurePosixPath, pattern: str) -> bool:
    wanted = pattern.strip().lower() or "*"
    return any(fnmatch.fnmatchcase(name.lower(), wanted) for name in (path.name, path.stem))


def _folders(names: Sequence[str]) -> list[str]:
    return [EVERYTHING, *sorted({folder for name in names for folder in _above(name)})]


def _above(name: str) -> list[str]:
    """The folders that a file lies in, from the loras folder down: a, a/b."""
    return [str(parent) for parent in PurePosixPath(_posix(name)).parents][:-1]


def _posix(name: str) -> str:
    return PureWindowsPath(name).as_posix()
