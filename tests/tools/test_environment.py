"""The environment that run.py creates: what it borrows, when it installs, and recovery from interruptions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from lora_pack.tools import environment
from lora_pack.tools.environment import Base, TorchMismatch, Venv, install_comfyui, look_at


@pytest.fixture(scope="module")
def base() -> Base:
    return look_at(Path(sys.executable))


@pytest.fixture(autouse=True)
def bare_environments(monkeypatch: pytest.MonkeyPatch):
    """Create environments without pip: installing it takes most of the time, and the tests never run it."""
    monkeypatch.setattr(environment, "MAKE_VENV", ["-m", "venv", "--without-pip"])


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments pip would have been called with."""
    calls: list[list[str]] = []

    def record(self: Venv, arguments: Sequence[str], borrowed_torch: str | None) -> None:
        calls.append(list(arguments))

    monkeypatch.setattr(Venv, "_pip", record)
    return calls


def test_the_base_pythons_torch_is_borrowed(tmp_path: Path, base: Base):
    venv = Venv(tmp_path / ".venv", base)
    assert venv.borrowed_torch == base.torch
    assert venv.runs("import torch, sys; assert sys.prefix.endswith('.venv')")


def test_nothing_is_borrowed_from_a_base_without_torch(tmp_path: Path, base: Base):
    venv = Venv(tmp_path / ".venv", replace(base, torch=None))
    assert venv.borrowed_torch is None
    assert not venv.runs("import torch")


def test_pip_runs_once_per_list_of_requirements(tmp_path: Path, base: Base, pip: list[list[str]]):
    for text in ("first", "first", "second", "second"):
        Venv(tmp_path / ".venv", base).install("tests", text, [text])
    assert pip == [["first"], ["second"]]


def test_an_interrupted_installation_is_started_over(tmp_path: Path, base: Base, pip: list[list[str]]):
    venv = Venv(tmp_path / ".venv", base)
    venv.install("comfyui", "one", ["one"])
    half = venv.site_packages / "half.py"
    half.touch()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Venv, "_pip", interrupted)
        venv.install("tests", "two", ["two"])
    again = Venv(tmp_path / ".venv", base)
    assert not half.exists()
    assert not again.has("comfyui", "one")


def test_a_torchvision_that_mismatches_the_borrowed_torch_raises(tmp_path: Path, base: Base, pip: list[list[str]]):
    venv = Venv(tmp_path / ".venv", base)
    with pytest.raises(TorchMismatch):
        venv.install("ComfyUI", "list", ["torchvision"], check="import no_such_module")
    venv.make(borrow=False)
    venv.install("ComfyUI", "list", ["torchvision"], check="import no_such_module")
    assert venv.has("ComfyUI", "list")


def test_torch_is_installed_only_if_none_is_borrowed(tmp_path: Path, base: Base, pip: list[list[str]]):
    (tmp_path / "requirements.txt").write_text("torch\ntorchvision # pictures\n\n#comment\nav>=14\n")
    required = ["torch", "torchvision", "av>=14"]
    for torch, expected in ((base.torch, required), (None, [*required, *environment.TORCH])):
        venv = Venv(tmp_path / f".venv-{torch}", replace(base, torch=torch))
        assert install_comfyui(venv, tmp_path) == tmp_path
        assert pip.pop() == expected


@pytest.mark.parametrize("free, told", [(300_000_000, True), (50_000_000_000, False)])
def test_a_full_disk_is_told_when_pip_fails(
    tmp_path: Path, base: Base, monkeypatch: pytest.MonkeyPatch, free: int, told: bool
):
    venv = Venv(tmp_path / ".venv", base)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(SystemExit, match="pip exited with code") as stopped:
        venv.install("tests", "list", ["--no-such-option"])
    assert ("has 0.3 GB free" in str(stopped.value)) is told
