"""Writing a file so that it appears whole under its name or not at all."""

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

# How files end that are being written: not an ending that ComfyUI lists, so one that a killed process left is never
# offered as a LoRA. The next save into the folder removes those that nobody has written to for this many seconds.
_TEMPORARY = ".power-merger.tmp"
_LEFT = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(_TEMPORARY)}")
_STALE = 24 * 3600
# How much is written before the disk is told to begin with it.
FLUSH_BYTES = 64 * 2**20


@contextmanager
def refusals_named(what: str, advice: str) -> Iterator[None]:
    """Words for the user where the system refuses: a full disk, a folder that can't be written to."""
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
    """Write into a temporary file beside ``path``, then give it its name; on any fault nothing is left behind.

    ``progress`` hears of the bytes of data written, and of those in all.
    Raises LoraError where the system refuses.
    """
    temporary = path.parent / f".{path.name[:80]}.{secrets.token_hex(4)}{_TEMPORARY}"
    advice = "Check that the folder may be written to, that its disk has room and that no other program uses the file."
    with refusals_named(f"{path.name} can't be written into {path.parent.name}", advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        try:
            # unbuffered: the blocks are large, and the disk is told of what is written already
            with temporary.open("xb", buffering=0) as file, _flushing(file) as flush:
                safetensors_file.write(file, contents, metadata, check, flush, hash_key, progress)
                os.fsync(file.fileno())
            check()
            return _give_name(temporary, path, overwrite)
        finally:
            with suppress(OSError):  # gone already; or held by another program for a moment: it goes as a stale one
                temporary.unlink()


@contextmanager
def _flushing(file: BinaryIO) -> Iterator[Callable[[], None]]:
    """What to call now and then while a file is written: the disk takes what is there while more is written.

    It leaves less to wait for at the end. Raises OSError where the disk refused.
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
