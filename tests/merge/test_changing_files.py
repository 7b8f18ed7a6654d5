"""LoRA files that another program changes while they are read, or between loading and use.

The result is that of the file as it was when loaded, or a LoraError saying that it changed; never a mixture.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.resize import resize
from lora_pack.tests.support.faults import Fault
from lora_pack.tests.support.makers import LINEAR, TEXT, fingerprint, make_lora, state_dict
from lora_pack.tests.support.merging import merge

SHAPES = {LINEAR: (140, 180), TEXT: (160, 120)}
RANK = 64  # makes the file larger than Python's read-ahead buffer


def lora(seed: int) -> Lora:
    return make_lora(seed, shapes=SHAPES, ranks=[RANK], name="a")


def write(seed: int, path: Path) -> Path:
    if path.suffix == ".pt":
        torch.save(state_dict(lora(seed)), path)
    else:
        save(lora(seed), path, overwrite=True)
    os.utime(path, (1e9, 1e9))  # a change shows in the time, however coarse the file system's clock
    return path


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = write(2, path.with_name(f"other{path.suffix}"))
    os.utime(other)
    os.replace(other, path)


def overwritten(path: Path) -> None:
    other = write(2, path.with_name(f"other{path.suffix}"))
    with path.open("r+b") as file:
        file.write(other.read_bytes())
        file.truncate()


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0" * 1000)


def a_folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES = (deleted, replaced, overwritten, emptied, halved, grown, a_folder_in_its_place)


def make(change: Callable[[Path], None], path: Path) -> None:
    try:
        change(path)
    except PermissionError:
        if sys.platform != "win32":
            raise  # Windows protects open files


def saved(loaded: Lora, folder: Path) -> str:
    return fingerprint(load(save(loaded, folder / "saved" / "a.safetensors", overwrite=True)))


USES: dict[str, Callable[[Lora, Path], str]] = {
    "save": saved,
    "resize": lambda loaded, _: fingerprint(resize(loaded, 3)),
    **{
        mode: lambda loaded, _, mode=mode: fingerprint(merge(mode, [lora(7), loaded], 0.5, rank=8))
        for mode in ("concat", "ties", "add_svd", "ties_svd")
    },
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_file_changed_after_loading_is_used_as_it_was_or_refused(use: str, ending: str, tmp_path: Path):
    expected = USES[use](load(write(1, tmp_path / f"a{ending}")), tmp_path)
    for change in CHANGES:
        (tmp_path / change.__name__).mkdir()
        path = write(1, tmp_path / change.__name__ / f"a{ending}")
        loaded = load(path)
        make(change, path)
        try:
            result = USES[use](loaded, tmp_path)
        except LoraError as error:
            assert f"a{ending} " in str(error), f"{change.__name__}: {error}"
            assert re.search("has changed|is gone|can no longer be read", str(error)), f"{change.__name__}: {error}"
        else:
            assert result == expected, change.__name__


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_changed_while_loading_is_read_as_it_was_or_refused(change: Callable[[Path], None], tmp_path: Path):
    refused = 0
    asked = checks(write(1, tmp_path / "a.safetensors"), 0, change)
    modules = len(lora(1).modules)  # one call each; more only while waiting for the hash
    assert asked >= modules
    for number in range(1, asked + 1):
        path = write(1, tmp_path / f"{number}.safetensors")
        try:
            checks(path, number, change)
        except LoraError as error:
            assert path.name in str(error)
            refused += number <= modules
    if sys.platform != "win32":  # which protects open files
        assert refused == modules


def checks(path: Path, change_at: int, change: Callable[[Path], None]) -> int:
    """Loads, and changes the file at the n-th check; the result must be unchanged. Returns the number of checks."""
    check = Fault(lambda: make(change, path), at=change_at)
    loaded = load(path, "a", check)
    assert fingerprint(replace(loaded, metadata={})) == fingerprint(lora(1))
    return check.calls
