"""What users get makes no code from data, starts no programs, uses no network and writes no data into the page.

Ruff checks most of the Python: the rules S and TID251, with the banned names in pyproject.toml. These tests check what
it can't see: builtins, the arguments of torch.load, the page's scripts. Users don't get tools/, run.py or the
tests (tests/test_archive.py).
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lora_pack.tests.test_archive import FOR_USERS

ROOT = Path(__file__).resolve().parents[1]


def python_files() -> list[Path]:
    found = [path for name in FOR_USERS for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.suffix == ".py"]
    assert len(found) > 40
    return sorted(set(found))


def ruff(*arguments: str, source: str | None = None) -> list[tuple[str, int, str]]:
    """File, line and rule of each finding about security."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "json", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, encoding="utf-8")
    if "No module named" in done.stderr:
        pytest.skip("ruff is not installed")
    found = [(one["filename"], one["location"]["row"], one["code"]) for one in json.loads(done.stdout)]
    return [one for one in found if re.match(r"S\d|TID251", one[2] or "")]


def test_no_noqa_hides_a_forbidden_call():
    assert ruff("--ignore-noqa", *map(str, python_files())) == []


FOR_RUFF = [
    *("eval('1')", "exec('1')", "import subprocess", "from subprocess import run", "import os; os.system('x')"),
    *(
        "from os import system; system('x')",
        "os.popen('x')",
        "os.execv('x', [])",
        "os.fork()",
        "import ctypes",
        "import socket",
    ),
    *("import urllib.request", "from urllib import request", "import requests", "from http import client"),
    *("import pickle", "pickle.loads(b'')", "from importlib import import_module", "import pip", "import aiohttp"),
    *("import numpy as np; np.load('x')", "import torch; torch.hub.load('x')", "from torch import hub"),
    *("torch.jit.load(p)", "import sys; sys.modules['x']"),
]


@pytest.mark.parametrize("folder", ["merge/formats", "nodes", "xy", "pictures", "."])
def test_ruff_reports_every_forbidden_call(folder: str):
    found = ruff("--stdin-filename", f"{folder}/any.py", "-", source="\n".join(FOR_RUFF))
    assert [FOR_RUFF[line - 1] for line in sorted({line for _, line, _ in found})] == FOR_RUFF


BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint", "globals", "__builtins__"}


def findings(source: str) -> Iterator[str]:
    """What is forbidden in a Python source and ruff does not see."""
    tree = ast.parse(source)
    safe = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and has_weights_only(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load" and id(node) not in safe:
            yield "torch.load that may run code"
        elif isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in {n.name for n in node.names}:
            yield "torch.load under a name of its own"


def has_weights_only(call: ast.Call) -> bool:
    return any(
        word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in call.keywords
    )


def test_python_makes_no_code_from_data():
    found = [
        (path.relative_to(ROOT).as_posix(), what)
        for path in python_files()
        for what in findings(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        *("f = eval", "f = exec", "compile('1', '', 'exec')", "__import__('os')", "globals()['eval']", "breakpoint()"),
        *("torch.load(p)", "torch.load(p, weights_only=False)", "torch.load(p, weights_only=x)", "f = torch.load"),
        *("from torch import load", "__builtins__['eval']"),
    ],
)
def test_code_from_data_is_found(source: str):
    assert list(findings(source))


@pytest.mark.parametrize("source", ["import re\nre.compile('a')", "torch.load(p, weights_only=True)"])
def test_harmless_python_is_not_reported(source: str):
    assert list(findings(source)) == []


FORBIDDEN_SCRIPT = re.compile(
    r"\b(eval|Function|XMLHttpRequest|WebSocket|EventSource|sendBeacon|fetch|fetchApi|importScripts)\s*\("
    r"|\b(innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|srcdoc|localStorage)\b"
    r"|document\.write|DOMParser|\bimport\s*\(|setAttribute\(\s*['\"]on|(setTimeout|setInterval)\(\s*['\"`]"
    r"|(https?:|wss?:)?//\w|javascript:"
)


IMPORT = re.compile(r"^\s*(?:import|export)\b(?:[\w${},*\s]+\sfrom\b)?\s*['\"]([^'\"]+)['\"]", re.MULTILINE)


def script_findings(source: str) -> list[str]:
    code = re.sub(r"/\*.*?\*/|(?<![:'\"`])//[^\n]*", "", source, flags=re.DOTALL)
    imports = [found[1] for found in IMPORT.finditer(code)]
    foreign = [name for name in imports if not re.fullmatch(r"\./\w+\.js|\.\./\.\./scripts/\w+\.js", name)]
    return [match[0] for match in FORBIDDEN_SCRIPT.finditer(code)] + foreign


def test_scripts_make_no_code_or_markup_and_load_nothing_foreign():
    scripts = sorted((ROOT / "web").rglob("*.*js"))
    assert len(scripts) >= 6
    found = {path.name: found for path in scripts if (found := script_findings(path.read_text("utf-8")))}
    # requests of ComfyUI's own api: facts of a file, the history of texts, the lists of files
    assert found == dict.fromkeys(("lora_facts.js", "new_files.js", "runs.js"), ["fetchApi("])


def test_the_page_asks_only_comfyui_and_only_for_facts():
    """The one request of the page: a GET (no second argument) for our own routes, or ComfyUI's list of LoRA files."""
    source = (ROOT / "web" / "lora_facts.js").read_text("utf-8")
    assert source.count("api.fetchApi(path)") == source.count("fetchApi") == 1
    asked = re.findall(r"\bget\(([`'].+?)[?`']", source)
    assert sorted(set(asked)) == ["'/models/loras", "`${ROOT}/facts"]


@pytest.mark.parametrize(
    "source",
    [
        *("eval('1')", "new Function('a')", "a.innerHTML = b", "a.outerHTML = b", "a.insertAdjacentHTML('x', b)"),
        *("document.write(a)", "fetch('/a')", "import('./a.js')", "import a from 'https://a.b/c.js'", "import 'a'"),
        *("a.setAttribute('onclick', b)", "setTimeout('a', 1)", "const a = 'https://a.b'", "const a = '//a.b'"),
    ],
)
def test_forbidden_script_is_found(source: str):
    assert script_findings(source)


def test_harmless_script_is_not_reported():
    assert (
        script_findings("// see https://a.b\n/* eval(a) */\nimport { a } from './growing.js'\nsetTimeout(() => a, 1)")
        == []
    )
