"""Which ComfyUI run.py uses, and which Python runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lora_pack.tools.find_comfyui import Found, find_comfyui, python_of


def make_comfyui(folder: Path, *pythons: Path) -> Path:
    for file in (folder / "main.py", *pythons):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def test_without_settings_no_comfyui_is_found(tmp_path: Path):
    assert find_comfyui(tmp_path, {}) == Found(None, None)


def test_finds_the_comfyui_whose_custom_nodes_contains_the_pack(tmp_path: Path):
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    assert find_comfyui(comfyui / "custom_nodes" / "any-name", {}) == Found(comfyui, None)
    assert find_comfyui(tmp_path / "custom_nodes" / "any-name", {}) == Found(None, None)


def test_comfyui_path_takes_precedence(tmp_path: Path):
    here, other = make_comfyui(tmp_path / "here"), make_comfyui(tmp_path / "other")
    assert find_comfyui(here / "custom_nodes" / "pack", {"COMFYUI_PATH": str(other)}).folder == other


@pytest.mark.parametrize("place", ["venv", ".venv"])
def test_finds_the_python_of_a_virtual_environment_inside_comfyui(tmp_path: Path, place: str):
    comfyui = tmp_path / "ComfyUI"
    python = python_of(comfyui / place)
    make_comfyui(comfyui, python)
    assert find_comfyui(tmp_path, {"COMFYUI_PATH": str(comfyui)}).python == python
    assert find_comfyui(tmp_path, {"COMFYUI_PATH": str(comfyui), "COMFYUI_PYTHON": sys.executable}) == Found(
        comfyui, Path(sys.executable)
    )


def test_finds_the_python_of_the_portable_build(tmp_path: Path):
    python = tmp_path / "python_embeded" / "python.exe"
    comfyui = make_comfyui(tmp_path / "ComfyUI", python)
    assert find_comfyui(comfyui / "custom_nodes" / "pack", {}) == Found(comfyui, python)


@pytest.mark.parametrize("variable", ["COMFYUI_PATH", "COMFYUI_PYTHON"])
def test_a_missing_path_is_named(tmp_path: Path, variable: str):
    with pytest.raises(SystemExit, match=f"{variable} is .*nowhere"):
        find_comfyui(tmp_path, {variable: str(tmp_path / "nowhere")})
