"""The pack in the ComfyUI registry and in ComfyUI Manager, checked by their own code (check.py), offline.

They aren't in the tests' environment, because comfy-cli brings dozens of packages:

    python -m venv V && V/bin/pip install comfy-cli comfyui-manager aiohttp
    REGISTRY_PYTHON=V/bin/python COMFYUI_PATH=... python -m pytest tests/registry
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lora_pack.merge.version import VERSION
from lora_pack.tools.find_comfyui import find_comfyui

ROOT = Path(__file__).resolve().parents[2]
CHECK = Path(__file__).with_name("check.py")
NEEDS = "import aiohttp, comfy_cli, importlib.util as u; assert u.find_spec('comfyui_manager')"
OTHER_FOLDERS = {"tests", "tools", "benchmarks", "docs", ".github", "run.py"}


@pytest.fixture(scope="module")
def python() -> str:
    named = os.environ.get("REGISTRY_PYTHON", sys.executable)
    if subprocess.run([named, "-c", NEEDS], capture_output=True).returncode:
        pytest.skip(f"{named} has no comfy-cli, comfyui-manager and aiohttp; test_registry.py says how to install them")
    return named


@pytest.fixture(scope="module")
def found(python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What their code makes of the last commit."""
    comfyui = Path(os.environ.get("COMFYUI_PATH") or find_comfyui(ROOT).folder or "")
    if not (comfyui / "folder_paths.py").is_file():
        pytest.skip("no ComfyUI: set COMFYUI_PATH")
    base = tmp_path_factory.mktemp("registry")
    checkout, work = base / "lora-power-merger", base / "work"
    if subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], capture_output=True).returncode:
        pytest.skip("not a git repository")
    work.mkdir()
    command = [python, str(CHECK), str(checkout), str(comfyui), str(work)]
    run = subprocess.run(command, cwd=work, capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((work / "found.json").read_text("utf-8"))


def test_publishing_would_accept_the_pack(found: dict[str, Any]):
    assert found["validate"]["code"] == 0
    assert "All validation checks passed" in found["validate"]["output"]
    assert "Warning" not in found["validate"]["output"] + found["warnings"]


def test_the_listing_is_complete(found: dict[str, Any]):
    project, comfy = found["listing"]["project"], found["listing"]["tool_comfy"]
    assert (project["name"], project["version"]) == ("lora-power-merger", VERSION)
    assert comfy["display_name"] == "LoRA Power-Merger"
    assert project["supported_comfyui_version"] == ">=0.3.60"
    assert project["supported_os"] and project["supported_accelerators"]
    assert project["dependencies"] == []
    assert project["description"] and project["license"]["file"] == "LICENSE"
    for address in (comfy["icon"], comfy["banner_url"]):
        (file,) = re.findall(r"/main/(.+)$", address)
        assert (ROOT / file).is_file()


def test_the_archive_has_what_users_need_and_nothing_else(found: dict[str, Any]):
    top = {file.split("/")[0] for file in found["files"]}
    assert {"__init__.py", "merge", "nodes", "xy", "web", "locales", "example_workflows"} <= top
    assert not top & OTHER_FOLDERS


def test_the_manager_knows_an_installed_version(found: dict[str, Any]):
    assert (found["archive"]["id"], found["archive"]["version"]) == ("lora-power-merger", VERSION)


def test_the_manager_installs_from_an_address(found: dict[str, Any]):
    assert found["address"]["result"], found["address"]["message"]
    assert found["address"]["resolved"]["id"] == "lora-power-merger"
