"""A run goes on after a stop, several processes share it, and an error stops it."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence.units import Unit, clear_claims, read_json, work_through, write_json
finally:
    sys.path.remove(str(ROOT))

FOREVER = time.time() + 1e6


class Work:
    """Units that write down their order."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.order: list[str] = []

    def unit(self, name: str, *needs: str) -> Unit:
        path = self.folder / f"{name}.json"

        def work() -> None:
            self.order.append(name)
            write_json(path, name)

        return Unit(path, work, tuple(self.folder / f"{need}.json" for need in needs))


def test_done_units_are_not_done_again(tmp_path: Path):
    work = Work(tmp_path)
    units = [work.unit("a"), work.unit("b")]
    work_through(units[:1], FOREVER)
    work_through(units, FOREVER)
    assert work.order == ["a", "b"]
    assert read_json(tmp_path / "b.json") == "b"


def test_a_unit_waits_for_what_it_needs(tmp_path: Path):
    work = Work(tmp_path)
    work_through([work.unit("b", "a"), work.unit("a")], FOREVER)
    assert work.order == ["a", "b"]


def test_no_unit_starts_after_the_deadline(tmp_path: Path):
    work = Work(tmp_path)
    work_through([work.unit("a")], time.time() - 1)
    assert work.order == []


def test_two_processes_share_the_units(tmp_path: Path):
    first, second = Work(tmp_path), Work(tmp_path)
    names = [str(number) for number in range(40)]
    threads = [
        threading.Thread(target=work_through, args=([work.unit(name) for name in names], FOREVER, 0.01))
        for work in (first, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*first.order, *second.order]) == sorted(names)


def test_an_error_ends_the_work_and_leaves_nothing_half_done(tmp_path: Path):
    def fail() -> None:
        raise RuntimeError("broken")

    unit = Unit(tmp_path / "a.json", fail)
    with pytest.raises(RuntimeError, match="broken"):
        work_through([unit], FOREVER)
    assert not unit.done
    clear_claims(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_runs_claims_are_forgotten(tmp_path: Path):
    work = Work(tmp_path)
    unit = work.unit("a")
    (tmp_path / "a.json.claim").touch()
    clear_claims(tmp_path)
    work_through([unit], FOREVER)
    assert work.order == ["a"]
