"""Units of work, each one file: a run that was stopped goes on where it was, and several processes share the work.

A unit is done when its file exists, and its file is written whole or not at all. A process that works on a unit holds
an empty file next to it, which two can't create.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLAIM = ".claim"


@dataclass(frozen=True)
class Unit:
    """``work`` writes ``file``; it can start once the files in ``needs`` exist."""

    file: Path
    work: Callable[[], None]
    needs: tuple[Path, ...] = ()

    @property
    def done(self) -> bool:
        return self.file.is_file()


def write_json(path: Path, content: Any) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    unfinished.write_text(json.dumps(content), "utf-8")
    unfinished.replace(path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def clear_claims(folder: Path) -> None:
    """Forget what a stopped run was working on. Only while no other process works in the folder."""
    for path in [*folder.rglob(f"*{CLAIM}"), *folder.rglob("*.unfinished")]:
        path.unlink(missing_ok=True)


def work_through(units: Sequence[Unit], deadline: float, pause: float = 0.5) -> None:
    """Do units in their order until all are done or ``deadline`` (time.time()) is reached.

    A unit that needs another process's file is skipped until that exists. An error ends this process and leaves its
    claim, so that no other process runs into the same error.
    """
    while time.time() < deadline:
        unit = _next(units)
        if unit is None:
            if all(unit.done for unit in units):
                return
            time.sleep(pause)
            continue
        unit.file.parent.mkdir(parents=True, exist_ok=True)
        unit.work()
        if not unit.done:
            raise RuntimeError(f"{unit.file.name} was not written.")
        _claim(unit).unlink(missing_ok=True)


def _next(units: Sequence[Unit]) -> Unit | None:
    """The first unit that can start, claimed for this process."""
    for unit in units:
        if not unit.done and all(path.is_file() for path in unit.needs) and _claimed(unit):
            if not unit.done:
                return unit
            _claim(unit).unlink(missing_ok=True)
    return None


def _claimed(unit: Unit) -> bool:
    unit.file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _claim(unit).open("x"):
            return True
    except FileExistsError:
        return False


def _claim(unit: Unit) -> Path:
    return unit.file.with_name(unit.file.name + CLAIM)
