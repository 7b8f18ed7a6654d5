"""Which modules loading the pack imports into ComfyUI: only the pack's own, and of those only what nodes need, since
every start pays for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Loads the pack as ComfyUI does, after the modules that ComfyUI itself has loaded by then.
CODE = """
import importlib.util, json, os, sys
comfyui, pack = sys.argv[1:]
sys.argv = ["main.py", "--cpu", "--base-directory", os.getcwd()]
sys.path.insert(0, comfyui)
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config  # before a library imports another module named utils
import execution, nodes, server
before = set(sys.modules)
spec = importlib.util.spec_from_file_location("the_pack", os.path.join(pack, "__init__.py"))
module = importlib.util.module_from_spec(spec)
sys.modules["the_pack"] = module
spec.loader.exec_module(module)
assert len(module.NODE_CLASS_MAPPINGS) > 10
print(json.dumps(sorted(set(sys.modules) - before)))
"""
# For the command line, for running a node, or for development.
NOT_AT_START = ("merge.__main__", "merge.cli", "merge.replay", "tools", "tests", "benchmarks", "run")


@pytest.fixture(scope="module")
def loaded(comfyui_folder: Path, comfyui_python: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The modules imported by loading the pack."""
    answer = subprocess.run(
        [comfyui_python, "-c", CODE, comfyui_folder, ROOT],
        cwd=tmp_path_factory.mktemp("base"),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def test_loading_the_pack_imports_no_other_library(loaded: list[str]):
    others = {name.split(".")[0] for name in loaded} - {"the_pack"} - set(sys.stdlib_module_names)
    assert not others, "import what only a run needs in the function that needs it"


def test_loading_the_pack_imports_only_what_nodes_need(loaded: list[str]):
    own = [name.removeprefix("the_pack.") for name in loaded if name.startswith("the_pack.")]
    assert {"nodes.load", "xy.grid", "merge.merging.merge_factors"} <= set(own)
    assert not [name for name in own if name.startswith(NOT_AT_START)]
