"""Safe names for files to write, which never leave their folder, and the names of folders in messages."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import LoraError

# Names that Windows reserves for devices, whatever their extension.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff<>:"|?*]')
# File systems allow 255 bytes; the rest is for the extension, the number and the temporary file's ending.
MAX_NAME_BYTES = 200


def folder_name(folder: Path) -> str:
    """The name of a folder for messages, also of the current folder and of a drive's root, whose paths have none."""
    return folder.absolute().name or str(folder.absolute())


def inside(folder: Path, file_name: str, extension: str) -> Path:
    """The path of ``file_name`` in ``folder``. It may have subfolders, with either slash; the extension is optional.

    Windows' rules apply on every system, so that folders can be moved. Raises LoraError for names that lead out of the
    folder, also through a link, and for names that no file can have.
    """
    if not re.fullmatch("[A-Za-z0-9]+", extension):
        raise LoraError(f"The extension {extension!r} can't be used: it must be letters and digits.")
    parts = re.split(r"[/\\]", file_name.strip())
    if parts[-1].lower().endswith("." + extension):
        parts[-1] = parts[-1][: -len(extension) - 1]
    for part in parts:
        _require_name(part, file_name)
    path = folder.joinpath(*parts[:-1], f"{parts[-1]}.{extension}")
    try:
        leaves = not path.parent.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        leaves = True
    if leaves:
        raise LoraError(
            f"The file name {file_name!r} leads out of {folder.name} through a link. Choose another folder."
        )
    return path


def _require_name(part: str, file_name: str) -> None:
    problem = None
    if part in ("", ".", ".."):
        problem = "it must name a file inside the folder, without empty parts, . or .."
    elif _FORBIDDEN.search(part):  # unpaired surrogates, which no file system accepts
        problem = "it contains a character that file names can't have (control characters, < > : \" | ? *)"
    elif part != part.strip() or part.endswith("."):
        problem = "a part of it starts or ends with a space or ends with a dot"
    elif _DEVICES.fullmatch(part.split(".")[0].strip()):
        problem = f"{part} is the name of a device on Windows"
    elif len(part.encode("utf-8")) > MAX_NAME_BYTES:
        problem = f"a part of it is longer than {MAX_NAME_BYTES} bytes"
    if problem:
        raise LoraError(f"The file name {file_name!r} can't be used: {problem}.")
