"""Imports go downward only, in the order written here; and inside the pack they are relative."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom up: each may import what stands above it in this list, and itself.
ORDER = (
    "merge.version",
    "merge.errors",
    "merge.lazy",
    "merge.compute",
    "merge.names",
    "merge.io",
    "merge.numerics",
    "merge.adapters",
    "merge.methods",
    "merge.provenance",
    "merge.formats",
    "merge.block_weights",
    "merge.files",
    "merge.facts",
    "merge.merging",
    "merge.models",
    "merge.inspecting",
    "merge.replay",
    "merge.cli",
    "pictures",
    "merge.__main__",
    "nodes",
    "xy",
    "",  # the root's own __init__.py
)
# What these need of ours, where it is less than everything below them.
NEEDS = {
    "merge.io": {"merge.errors", "merge.lazy", "merge.compute"},
    "merge.numerics": {"merge.errors", "merge.compute"},
    "merge.methods": {"merge.errors", "merge.compute", "merge.numerics"},
    "merge.names": {"merge.errors"},
    "pictures": set(),
    "": {"nodes", "xy"},
}
# `python -m merge` hands pictures/ to the command line, for `inspect --picture`. Started that way, merge is at the top
# level, so that only an absolute import reaches its neighbour. Nothing else in merge/ may know of pictures/.
REACHES_PICTURES = "merge/__main__.py"
# The program ComfyUI, as other packs see it.
COMFYUI = {"comfy", "comfy_extras", "comfy_execution", "comfy_api", "folder_paths", "server", "execution", "nodes"}
# tqdm is for the command line and comes with ComfyUI.
MERGE_NEEDS = {"torch", "numpy", "safetensors", "tqdm"}
PICTURES_NEED = {"torch", "numpy", "PIL"}


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str  # dotted, from the root of the pack where it is ours
    relative: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def package_of(module: str) -> str:
    """The entry of ORDER that a dotted module of ours belongs to."""
    first, *rest = module.split(".")
    return f"merge.{rest[0]}" if first == "merge" and rest else first


def sources() -> list[Path]:
    folders = ("merge", "pictures", "nodes", "xy")
    return [ROOT / "__init__.py", *(path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))]


def package_of_file(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else package_of(".".join(parts))


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
            for alias in node.names:
                # `from ..numerics import svd` imports a module, `from ..errors import LoraError` a name of one
                module = ROOT.joinpath(*base, alias.name)
                is_module = module.is_dir() or module.with_suffix(".py").is_file()
                yield Import(name, node.lineno, ".".join([*base, alias.name] if is_module else base), True)


def found(folder: str) -> list[Import]:
    return [one for path in sources() if package_of_file(path).split(".")[0] == folder for one in imports(path)]


def test_every_package_has_its_place_in_the_order():
    packages = {package_of_file(path) for path in sources()} - {"merge.__init__"}
    assert packages == set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_nothing_is_imported_upward(package: str):
    allowed = {package} | NEEDS.get(package, set(ORDER[: ORDER.index(package)]))
    files = [path for path in sources() if package_of_file(path) == package]
    assert files
    wrong = [
        str(one) for path in files for one in imports(path) if one.relative and package_of(one.module) not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("folder", ["merge", "pictures", "nodes", "xy", ""])
def test_imports_inside_the_pack_are_relative(folder: str):
    """ComfyUI loads the pack under its folder's name and has a module `nodes` of its own."""
    own = {"merge", "pictures", "xy", "tests", "tools", "lora_pack", "benchmarks"}
    own |= {"nodes"} if folder in ("merge", "pictures") else set()
    wrong = [one for one in found(folder) if not one.relative and one.module.split(".")[0] in own]
    wrong = [one for one in wrong if (one.file, one.module) != (REACHES_PICTURES, "pictures.inspection")]
    assert not [str(one) for one in wrong]


@pytest.mark.parametrize(("folder", "needs"), [("merge", MERGE_NEEDS), ("pictures", PICTURES_NEED)])
def test_no_comfyui_and_no_other_library_is_needed_by(folder: str, needs: set[str]):
    outside = [one for one in found(folder) if not one.relative]
    known = needs | set(sys.stdlib_module_names)
    wrong = [one for one in outside if one.module.split(".")[0] not in known and one.file != REACHES_PICTURES]
    assert not [str(one) for one in wrong]
    assert not [str(one) for one in outside if one.module.split(".")[0] in COMFYUI]


def test_every_package_says_its_job():
    for path in sources():
        if path.name == "__init__.py" and path.parent != ROOT:
            assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path
