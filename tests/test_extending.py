"""The examples of docs/extending.md, applied to a copy of the pack and run."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lora_pack.merge.files import load
from lora_pack.tests.support.makers import make_lora, state_dict
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
# The first line of a block: a new file, or the place in an existing one.
PLACE = re.compile(r"# (?P<file>[\w/]+\.py)(?:: (?P<where>\w+))?")
SHAPES = {f"lora_unet_mid_block_attentions_0_proj_{end}": (12, 10) for end in ("in", "out")}


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.DOTALL)


def apply(block: str, root: Path) -> None:
    first, _, code = block.partition("\n")
    place = PLACE.fullmatch(first)
    assert place, f"{first!r} does not say where the block belongs"
    path, where = root / place["file"], place["where"]
    if where is None:
        assert not path.exists()
        path.write_text(code, "utf-8")
        return
    lines = path.read_text("utf-8").splitlines(keepends=True)
    lines.insert(line_after(where, ast.parse("".join(lines))), code)
    path.write_text("".join(lines), "utf-8")


def line_after(where: str, tree: ast.Module) -> int:
    """The line number below the last import, or before the closing bracket of an assignment."""
    if where == "imports":
        return max(node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == where for target in targets):
            return (node.end_lineno or 0) - 1
    raise AssertionError(f"nothing is called {where}")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pack with all examples in it."""
    root = tmp_path_factory.mktemp("extended")
    for folder in ("merge", "nodes"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    # one entry a line, so that a row can be inserted
    reader = root / "merge" / "formats" / "reader.py"
    text = reader.read_text("utf-8")
    row = re.search(r"^FAMILIES: .* = \((.*)\)$", text, re.MULTILINE)
    assert row
    reader.write_text(text.replace(row[0], row[0].replace(f"({row[1]})", f"(\n    {row[1]},\n)")), "utf-8")
    for block in blocks():
        apply(block, root)
    return root


def run(root: Path, *commands: list[str]) -> list[tuple[int, str]]:
    """Runs commands of `python -m merge` in one process; the exit code of each and what it printed."""
    code = (
        "import contextlib, io, json, sys\n"
        "from merge.__main__ import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    printed = io.StringIO()\n"
        "    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):\n"
        "        code = main(command)\n"
        "    print(json.dumps([code, printed.getvalue()]))\n"
    )
    arguments = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_the_merge_method_of_the_guide_merges(extended: Path):
    for seed in (1, 2, 3):
        save_file(state_dict(make_lora(seed, shapes=SHAPES, ranks=[3])), extended / f"{seed}.safetensors")
    files = [f"{seed}.safetensors" for seed in (1, 2, 3)]
    as_median = ["--mode", "trimmed_mean_svd", "--set", "trim_share=1", "--rank", "10", "-o", "out.safetensors"]
    merged, methods, replayed = run(extended, ["merge", *files, *as_median], ["methods"], ["replay", "out.safetensors"])
    assert merged[0] == 0, merged[1]
    assert "--set trim_share=0.5 (0 to 1)" in methods[1]
    assert replayed[0] == 0, replayed[1]
    found = load(extended / "out.safetensors")
    for name in SHAPES:
        deltas = torch.stack([load(extended / file).modules[name].dense() for file in files])
        assert torch.allclose(found.modules[name].dense(), deltas.median(0).values, atol=1e-5)


def test_the_adapter_family_of_the_guide_is_read_and_merged(extended: Path):
    noise = torch.Generator().manual_seed(1)
    u, v = torch.randn(12, generator=noise), torch.randn(10, generator=noise)
    name = next(iter(SHAPES))
    save_file({f"{name}.outer_u": u, f"{name}.outer_v": v}, extended / "outer.safetensors")
    save_file({f"{name}.outer_u": u}, extended / "broken.safetensors")
    info, merged, broken = run(
        extended,
        ["info", "outer.safetensors"],
        ["merge", "outer.safetensors:0.5", "-o", "half.safetensors"],
        ["info", "broken.safetensors"],
    )
    assert info[0] == 0 and "rank:    1" in info[1]
    assert merged[0] == 0, merged[1]
    assert torch.allclose(load(extended / "half.safetensors").modules[name].dense(), 0.5 * torch.outer(u, v), atol=1e-6)
    assert broken[0] == 1 and "lacks outer_v" in broken[1]


def test_the_node_of_the_guide_counts(extended: Path):
    save_file(state_dict(make_lora(1, shapes=SHAPES, ranks=[2, 5])), extended / "ranks.safetensors")
    # nodes/__init__.py imports ComfyUI, so the class is taken from its own file
    code = (
        "import sys, types\n"
        "pack, nodes, inputs = (types.ModuleType(f'pack{end}') for end in ('', '.nodes', '.nodes.inputs'))\n"
        "pack.__path__, nodes.__path__ = ['.'], ['nodes']\n"
        "inputs.CATEGORY, inputs.lora_input = 'test', lambda tooltip: ('LoRA', {'tooltip': tooltip})\n"
        "sys.modules.update({'pack': pack, 'pack.nodes': nodes, 'pack.nodes.inputs': inputs})\n"
        "from pack.nodes.ranks import LoraRanks\n"
        "from pack.merge.files import load\n"
        "print(LoraRanks().count(load('ranks.safetensors'))[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=extended, capture_output=True, text=True)
    assert done.stdout.strip() == "rank 2: 1 modules, rank 5: 1 modules", done.stderr
    registered = ast.parse((extended / "nodes" / "__init__.py").read_text("utf-8"))
    assert ast.unparse(registered).count("PM LoRA Ranks") == 3
