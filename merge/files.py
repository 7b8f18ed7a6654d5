"""LoRA files: reading any that hold low-rank factors, writing safetensors without ever showing a half-written file."""

from __future__ import annotations

import logging
import os
import pickle
import re
import secrets
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from . import tensorfile
from .architectures import Style
from .compute import Check, go_on
from .formats import from_state_dict, to_peft_state_dict, to_state_dict
from .lora import Lora, LoraError
from .spelling import respelled

log = logging.getLogger(__name__)

# What the reader of pickles raises on damaged ones, besides its own errors.
_DAMAGE = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError)

SAFETENSORS = (".safetensors", ".sft")

# How files end that are being written: not an ending that ComfyUI lists, so one that a killed process left is never
# offered as a LoRA. The next save into the folder removes those that nobody has written to for this many seconds.
_TEMPORARY = ".power-merger.tmp"
_LEFT = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(_TEMPORARY)}")
_STALE = 24 * 3600


def load(path: Path, name: str | None = None, check: Check = go_on) -> Lora:
    """Read a LoRA file. Its name (what messages call it) is the file's, without the ending, unless one is given.

    Raises LoraError when the file is missing, damaged, or holds something else than LoRA weights.
    """
    path = Path(path)
    with _refusals_named(f"{path.name} can't be read from {path.parent.name}", "Check the file and its folder."):
        if not path.is_file():
            raise LoraError(f"There is no file {path.name} (looked for in {path.parent.name}).")
        if path.suffix.lower() in SAFETENSORS:
            tensors, metadata = tensorfile.read(path, check)
        else:
            tensors, metadata = _read_pickle(path), {}
    return from_state_dict(tensors, name or path.stem, metadata, check)


@contextmanager
def _refusals_named(what: str, advice: str) -> Iterator[None]:
    """Words for the user where the system refuses: a full disk, a folder that can't be written to."""
    try:
        yield
    except OSError as error:
        raise LoraError(f"{what}: {error.strerror or error}. {advice}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, *_DAMAGE) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LoraError(
            f"{path.name} can't be read as a file of plain weights ({reason}). "
            "Get it as .safetensors: other formats can hold programs and are only read where they hold none."
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise LoraError(f"{path.name} holds no table of tensors, so it is not a LoRA.")
    return {str(key): _tensor(str(key), value, path.name) for key, value in content.items()}


def _tensor(key: str, value: object, source: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, int | float) and key.endswith(".alpha"):
        return torch.tensor(float(value))
    raise LoraError(f"{source}: entry {key} is a {type(value).__name__}, not a tensor; this is not a LoRA file.")


def save(
    lora: Lora,
    path: Path,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    check: Check = go_on,
    style: Style | None = None,
) -> Path:
    """Write a LoRA with its strengths and block weights in its alphas, and return the path written.

    Unless told to overwrite, an existing file is left alone and the name counts up (name_00002). The file appears
    whole under its name or not at all. ``dtype`` None keeps each tensor's own, ``style`` None the names
    that it has. Raises LoraError for an empty LoRA, and for what a style has no name for.
    """
    baked = lora.baked()
    if not baked.modules:
        raise LoraError(
            f"{lora.name} holds no weights, so there is nothing to save: it is empty or its strengths are all 0."
        )
    if style is not None:
        baked = respelled(baked, style)
    tensors = (to_peft_state_dict if style == "peft" else to_state_dict)(baked, dtype, check)
    return write_whole(Path(path), tensors, baked.metadata, overwrite, check)


def write_whole(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    overwrite: bool,
    check: Check,
) -> Path:
    """Write into a temporary file beside ``path``, then give it its name; on any fault nothing is left behind.

    Raises LoraError where the system refuses.
    """
    temporary = path.parent / f".{path.name[:80]}.{secrets.token_hex(4)}{_TEMPORARY}"
    advice = "Check that the folder may be written to, that its disk has room and that no other program uses the file."
    with _refusals_named(f"{path.name} can't be written into {path.parent.name}", advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        try:
            with temporary.open("xb") as file:
                tensorfile.write(file, tensors, metadata, check)
                file.flush()
                os.fsync(file.fileno())
            check()
            return _give_name(temporary, path, overwrite)
        finally:
            with suppress(OSError):  # gone already; or held by another program for a moment: it goes as a stale one
                temporary.unlink()


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, once nobody can be writing it any more."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFT.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                        os.unlink(entry.path)


def _give_name(temporary: Path, path: Path, overwrite: bool) -> Path:
    if overwrite:
        os.replace(temporary, path)
        return path
    for number in range(1, 100_000):
        free = path if number == 1 else path.with_name(f"{path.stem}_{number:05}{path.suffix}")
        try:
            _rename_unless_there(temporary, free)
        except FileExistsError:
            continue
        return free
    raise LoraError(f"{path.name} and 99,999 numbered names after it are taken. Choose another name.")


def _rename_unless_there(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # fails where the name is taken, whoever took it a moment ago
        return
    except FileExistsError:
        raise
    except OSError:
        pass  # a file system without hard links (FAT, some network shares)
    # takes the name, empty for a moment, or fails where somebody else has it
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.replace(source, target)
    except BaseException:
        os.unlink(target)
        raise
