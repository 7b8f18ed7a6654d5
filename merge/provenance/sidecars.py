"""Files that other programs put beside a LoRA file: a preview picture, and JSON with trigger words and the base model.

For styles/ink.safetensors they are

- ink.png, ink.preview.png and the same with .webp, .jpg, .jpeg: A1111, Civitai Helper, Lora-Manager
- ink.json: A1111's user metadata ("activation text", "sd version")
- ink.civitai.info: Civitai Helper, the answer of Civitai's API ("trainedWords", "baseModel")
- ink.metadata.json: Lora-Manager ("base_model", and Civitai's answer under "civitai")
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

PICTURES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
TABLES = (".civitai.info", ".metadata.json", ".json")
# Civitai's answer for a model with many versions takes about 100 kB.
MAX_BYTES = 4 * 2**20


def preview_of(path: Path) -> Path | None:
    """The preview picture of a LoRA file, or None."""
    names = (f"{path.stem}{middle}{ending}" for ending in PICTURES for middle in (".preview", ""))
    return next((found for name in names if (found := _beside(path, name)) is not None), None)


def tables_of(path: Path) -> list[Mapping[str, object]]:
    """The JSON tables beside a LoRA file. Files that are too large or no such table are left out."""
    found = (_beside(path, path.stem + ending) for ending in TABLES)
    return [table for file in found if file is not None and (table := _read(file)) is not None]


def states_of(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and modification time of all the files beside a LoRA file that this module reads."""
    return tuple(_state(file) for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    preview = preview_of(path)
    if preview is not None:
        yield preview
    for ending in TABLES:
        file = _beside(path, path.stem + ending)
        if file is not None:
            yield file


def _state(file: Path) -> tuple[str, int, int]:
    status = file.stat()
    return file.name, status.st_size, status.st_mtime_ns


def _beside(path: Path, name: str) -> Path | None:
    """The file of this name in the folder of ``path``, unless it is a link out of that folder or to another kind."""
    file = path.with_name(name)
    try:
        if not file.is_file():
            return None
        real = file.resolve()
        stays = real.parent in (path.parent.resolve(), path.resolve().parent)
    except (OSError, RuntimeError):  # links in a circle
        return None
    return file if stays and real.suffix.lower() == file.suffix.lower() else None


def _read(file: Path) -> Mapping[str, object] | None:
    try:
        if file.stat().st_size > MAX_BYTES:
            return None
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
