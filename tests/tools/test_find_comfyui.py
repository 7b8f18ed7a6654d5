"""Which ComfyUI run.py takes, and which Python runs it."""

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


def test_none_means_the_one_from_the_package_index(tmp_path: Path):
    assert find_comfyui(tmp_path, {}) == Found(None, None)


def test_the_one_in_whose_custom_nodes_the_pack_lies(tmp_path: Path):
    comfyui = make_comfyui(tmp_path / "ComfyUI")
    assert find_comfyui(comfyui / "custom_nodes" / "any-name", {}) == Found(comfyui, None)
    assert find_comfyui(tmp_path / "custom_nodes" / "any-name", {}) == Found(None, None)


def test_comfyui_path_comes_before_it(tmp_path: Path):
    here, other = make_comfyui(tmp_path / "here"), make_comfyui(tmp_path / "other")
    assert find_comfyui(here / "custom_nodes" / "pack", {"COMFYUI_PATH": str(other)}).folder == other


@pytest.mark.parametrize("place", ["venv", ".venv"])
def test_the_python_of_an_environment_in_it(tmp_path: Path, place: str):
    comfyui = tmp_path / "ComfyUI"
    python = python_of(comfyui / place)
    make_comfyui(comfyui, python)
    assert find_comfyui(tmp_path, {"COMFYUI_PATH": str(comfyui)}).python == python
    assert find_comfyui(tmp_path, {"COMFYUI_PATH": str(comfyui), "COMFYUI_PYTHON": sys.executable}) == Found(
        comfyui, Path(sys.executable)
    )


def test_the_python_of_the_portable_build(tmp_path: Path):
    python = tmp_path / "python_embeded" / "python.exe"
    comfyui = make_comfyui(tmp_path / "ComfyUI", python)
    assert find_comfyui(comfyui / "custom_nodes" / "pack", {}) == Found(comfyui, python)


@pytest.mark.parametrize("variable", ["COMFYUI_PATH", "COMFYUI_PYTHON"])
def test_a_path_that_leads_nowhere_is_named(tmp_path: Path, variable: str):
    with pytest.raises(SystemExit, match=f"{variable} is .*nowhere"):
        find_comfyui(tmp_path, {variable: str(tmp_path / "nowhere")})
