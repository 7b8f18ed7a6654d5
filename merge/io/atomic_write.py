"""Atomic writes: a file appears complete under its name, or not at all."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..compute.context import CancelCheck, Progress, no_progress
from ..errors import LoraError
from ..lazy import LazyTensor
from . import safetensors_file
from .paths import folder_name

# The ending of temporary files. ComfyUI doesn't list it, so a file that a killed process left is never offered as a
# LoRA. The next save into the folder removes temporary files that nobody has written to for _STALE seconds.
_TEMPORARY = ".power-merger.tmp"
_LEFT = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(_TEMPORARY)}")
_STALE = 24 * 3600
# Bytes written before fsync starts on them.
FLUSH_BYTES = 64 * 2**20


@contextmanager
def refusals_named(what: str, advice: str) -> Iterator[None]:
    """Turn the system's errors (disk full, folder not writable) into a LoraError for the user."""
    try:
        yield
    except OSError as error:
        raise LoraError(f"{what}: {error.strerror or error}. {advice}") from error


def write_whole(
    path: Path,
    contents: Mapping[str, LazyTensor],
    metadata: Mapping[str, str],
    overwrite: bool,
    check: CancelCheck,
    progress: Progress = no_progress,
    hash_key: str = "",
) -> Path:
    """Write into a temporary file next to ``path``, then rename it; after an error nothing is left.

    ``progress`` is called with the bytes of data written so far and in total. Raises LoraError if the system refuses.
    """
    temporary = path.parent / f".{path.name[:80]}.{secrets.token_hex(4)}{_TEMPORARY}"
    advice = "Check that the folder is writable, that its disk has space and that no other program uses the file."
    with refusals_named(f"{path.name} can't be written into {folder_name(path.parent)}", advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        try:
            # unbuffered, because the blocks are large and fsync must see what is written
            with temporary.open("xb", buffering=0) as file, _flushing(file) as flush:
                safetensors_file.write(file, contents, metadata, check, flush, hash_key, progress)
                os.fsync(file.fileno())
            check()
            return _give_name(temporary, path, overwrite)
        finally:
            with suppress(OSError):  # renamed already, or held by another program: then a later save removes it
                temporary.unlink()


@contextmanager
def _flushing(file: BinaryIO) -> Iterator[Callable[[], None]]:
    """A function to call while a file is written: fsync runs in a second thread, so that less remains at the end.

    Raises OSError if the disk refused.
    """
    last: Future[None] | None = None
    flushed = 0

    def flush() -> None:
        nonlocal last, flushed
        if last is not None and last.done():
            last.result()
            last = None
        if last is None and file.tell() - flushed >= FLUSH_BYTES:
            flushed = file.tell()
            last = thread.submit(os.fsync, file.fileno())

    with ThreadPoolExecutor(1) as thread:
        yield flush
        if last is not None:
            last.result()


def _remove_stale(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder, once nobody can still be writing them."""
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
    raise LoraError(f"{path.name} and the 99,999 numbered names after it are taken. Choose another name.")


def _rename_unless_there(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # fails if the name is taken, even if that happened a moment ago
        return
    except FileExistsError:
        raise
    except OSError:
        pass  # a file system without hard links (FAT, some network shares)
    # reserves the name with an empty file, or fails if it is taken
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.replace(source, target)
    except BaseException:
        os.unlink(target)
        raise
