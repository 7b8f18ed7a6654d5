"""The model files that nodes offer: checkpoints, diffusion models and text encoders, as ComfyUI lists them."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..merge.models.model_file import ENDINGS
from . import comfy_bridge
from .files_read import FilesRead

# ComfyUI's names of the folders. A choice is the folder's name, a slash, and the file's name below it.
FOLDERS = ("checkpoints", "diffusion_models", "text_encoders")


def model_names() -> list[str]:
    """The choices: all files of the folders that can be read."""
    files = [(folder, name) for folder in FOLDERS for name in folder_paths.get_filename_list(folder)]
    return [f"{folder}/{name}" for folder, name in files if name.lower().endswith(ENDINGS)]


def model_path(choice: str) -> Path:
    """The path of a chosen file, to be read by a node."""
    _files_read.note(choice)
    folder, _, name = choice.partition("/")
    return Path(folder_paths.get_full_path_or_raise(folder, name))


def model_state(choice: str) -> tuple[int, ...] | None:
    """Size and modification time of a chosen file; None if it is gone."""
    folder, _, name = choice.partition("/")
    path = folder_paths.get_full_path(folder, name) if folder in FOLDERS else None
    return None if path is None else comfy_bridge.state_of(Path(path))


_files_read = FilesRead(model_state)


def models_state(*choices: str | None) -> str:
    """IS_CHANGED for a node that reads these files. None is one whose name comes from a link."""
    states = [None if choice is None else model_state(choice) for choice in choices]
    return str([*states, _files_read.changes() if None in choices else 0])


def folder_of(choice: str) -> tuple[str, Path]:
    """Where a file made from the chosen one is written: the name of ComfyUI's folder, and its path.

    That is the first one of the same kind, but not the older models/unet or models/clip if there is one with the name.
    """
    name = choice.partition("/")[0]
    folders = [Path(path) for path in folder_paths.get_folder_paths(name)]
    return name, next((folder for folder in folders if folder.name == name), folders[0])
