"""Who may import whom: merge/ nothing above it, nodes/ merge/, xy/ both; and inside the pack all is relative."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("merge", "nodes", "xy")

# part -> the parts of ours that it may import; "" is the root's own __init__.py
MAY_IMPORT = {"merge": {"merge"}, "nodes": {"nodes", "merge"}, "xy": {"xy", "nodes", "merge"}, "": {"nodes", "xy"}}
# What ComfyUI's program is made of, as other packages see it.
COMFYUI = {"comfy", "comfy_extras", "comfy_execution", "comfy_api", "folder_paths", "server", "execution", "nodes"}
# tqdm is for the command line and comes with ComfyUI.
MERGE_NEEDS = {"torch", "numpy", "safetensors", "tqdm"}


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str  # dotted, from the root of the pack where it is ours
    relative: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def files(part: str) -> list[Path]:
    return [ROOT / "__init__.py"] if part == "" else sorted((ROOT / part).rglob("*.py"))


def imports(path: Path) -> Iterator[Import]:
    """All imports of a file, those inside functions and under TYPE_CHECKING too."""
    name = path.relative_to(ROOT).as_posix()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, node.lineno, alias.name, False)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield Import(name, node.lineno, node.module or "", False)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= len(package) + 1, f"{name}:{node.lineno} leaves the pack"
            base = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
            base = [word for word in base if word]
            if base:
                yield Import(name, node.lineno, ".".join(base), True)
            else:  # from . import a, b
                for alias in node.names:
                    yield Import(name, node.lineno, alias.name, True)


def found(part: str) -> list[Import]:
    return [one for path in files(part) for one in imports(path)]


def test_there_is_something_to_look_at():
    for part in ("merge", "nodes", ""):
        assert [one for one in found(part) if one.relative], part


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_nothing_is_imported_upward(part: str):
    wrong = [one for one in found(part) if one.relative and one.module.split(".")[0] not in MAY_IMPORT[part]]
    assert not [str(one) for one in wrong]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_inside_the_pack_imports_are_relative(part: str):
    """ComfyUI loads the pack under its folder's name and has a module `nodes` of its own."""
    own = {"merge", "xy", "tests", "tools", "lora_pack", "benchmarks"} | ({"nodes"} if part == "merge" else set())
    wrong = [one for one in found(part) if not one.relative and one.module.split(".")[0] in own]
    assert not [str(one) for one in wrong]


def test_the_core_needs_no_comfyui_and_no_other_library():
    wrong = [
        one
        for one in found("merge")
        if not one.relative and one.module.split(".")[0] not in MERGE_NEEDS | set(sys.stdlib_module_names)
    ]
    assert not [str(one) for one in wrong]
    assert not [str(one) for one in found("merge") if not one.relative and one.module.split(".")[0] in COMFYUI]
