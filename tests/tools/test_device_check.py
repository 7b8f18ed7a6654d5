"""`run.py test --device`: which Python it picks, and what it prints if none can use the device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    import run
finally:
    sys.path.remove(str(ROOT))


@pytest.fixture
def pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """ComfyUI's Python, the running one, and .venv's. None of them is ever started."""
    found = {name: tmp_path / name / "python" for name in ("comfyui", "this", ".venv")}
    for path in found.values():
        path.parent.mkdir()
        path.touch()
    monkeypatch.setattr(run, "find_comfyui", lambda root: SimpleNamespace(python=found["comfyui"]))
    monkeypatch.setattr(run, "python_of", lambda folder: found[".venv"])
    monkeypatch.setattr(sys, "executable", str(found["this"]))
    return found


def answering(monkeypatch: pytest.MonkeyPatch, able: str, pythons: dict[str, Path]) -> list[list[str]]:
    """Let only one of the Pythons have the device; returns the commands that were run."""
    ran: list[list[str]] = []

    def run_one(command: list[str], **options: object) -> SimpleNamespace:
        ran.append(command)
        good = able and command[0] == str(pythons[able])
        return SimpleNamespace(returncode=0 if good else 1, stderr="Traceback\nAssertionError: no such device\n")

    monkeypatch.setattr(subprocess, "run", run_one)
    return ran


@pytest.mark.parametrize("able, tried", [("comfyui", 1), ("this", 2), (".venv", 3)])
def test_the_first_python_with_the_device_runs_the_check(able: str, tried: int, pythons, monkeypatch):
    ran = answering(monkeypatch, able, pythons)
    assert run.test(["--device", "cuda", "--only", "memory"]) == 0
    script = str(ROOT / "tests" / "cuda" / "check.py")
    assert len(ran) == tried + 1
    assert ran[-1] == [str(pythons[able]), script, "--device", "cuda", "--only", "memory"]


def test_without_a_suitable_python_the_reasons_are_printed(pythons, monkeypatch, capsys: pytest.CaptureFixture[str]):
    ran = answering(monkeypatch, "", pythons)
    assert run.test(["--device", "xpu"]) == 1
    printed = capsys.readouterr().out
    assert "No Python found whose torch can use the device xpu" in printed
    assert printed.count("no such device") == 3 and len(ran) == 3


def test_device_option_without_a_name_is_rejected():
    with pytest.raises(SystemExit, match="--device needs a name"):
        run.test(["--device"])
