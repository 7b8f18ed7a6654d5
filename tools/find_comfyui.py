"""Finds the ComfyUI to use and the Python that runs it. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Found:
    folder: Path | None  # None: none found, install the one from the package index
    python: Path | None  # None: it has no Python environment of its own, use .venv


def find_comfyui(root: Path, environment: Mapping[str, str] = os.environ) -> Found:
    """ComfyUI from COMFYUI_PATH and COMFYUI_PYTHON, else the one whose custom_nodes contains the pack, else none."""
    python = _file(environment, "COMFYUI_PYTHON")
    if environment.get("COMFYUI_PATH"):
        folder = Path(environment["COMFYUI_PATH"]).expanduser().absolute()
        if not (folder / "main.py").is_file():
            raise SystemExit(f"COMFYUI_PATH is {folder}, which has no main.py. Set it to ComfyUI's folder.")
        return Found(folder, python or python_beside(folder))
    if root.parent.name == "custom_nodes" and (root.parents[1] / "main.py").is_file():
        return Found(root.parents[1], python or python_beside(root.parents[1]))
    return Found(None, python)


def python_beside(folder: Path) -> Path | None:
    """The Python of a typical installation: a virtual environment inside it, or the portable build's next to it."""
    places = [folder / name for name in ("venv", ".venv")]
    candidates = [python_of(place) for place in places] + [folder.parent / "python_embeded" / "python.exe"]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _file(environment: Mapping[str, str], name: str) -> Path | None:
    if not environment.get(name):
        return None
    # Not resolved: the Python of a virtual environment is a link, and its target doesn't know the environment.
    file = Path(environment[name]).expanduser().absolute()
    if not file.is_file():
        raise SystemExit(f"{name} is {file}, which does not exist. Set it to a Python executable.")
    return file
