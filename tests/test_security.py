"""What the pack's code never does: make code from data, start programs, use the network, write data into the page.

Read from the sources, all those that users get. tools/, run.py and the tests are no part of what they get, nor does
ComfyUI import them (tests/test_archive.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lora_pack.tests.test_archive import FOR_USERS

ROOT = Path(__file__).resolve().parents[1]

FORBIDDEN_IMPORTS = {
    "programs": "subprocess multiprocessing pty ctypes cffi webbrowser pip ensurepip venv",
    "network": "socket ssl urllib urllib3 http requests httpx aiohttp ftplib smtplib telnetlib xmlrpc socketserver",
    "code from data": "pickle marshal shelve dill cloudpickle joblib importlib runpy code codeop builtins",
}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint", "globals", "__builtins__"}
FORBIDDEN_CALLS = re.compile(
    r"os\.(system|popen|exec\w*|spawn\w*|posix_spawn\w*|fork\w*|startfile)"
    r"|pickle\.(load|loads|Unpickler)"
    r"|(np|numpy)\.(load|fromregex|lib)|torch\.(hub|jit|compile|package)"
    r"|torch\.(ops|classes)\.load_library|torch\.utils\.(cpp_extension|dlpack)|sys\.modules"
)
# file and what is found in it -> why it is fine
ALLOWED = {
    ("nodes/help_route.py", "import aiohttp"): "ComfyUI's own server library: the help pages are one of its routes",
}


def python_files() -> list[Path]:
    found = [path for name in FOR_USERS for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.suffix == ".py"]
    assert len(found) > 40
    return sorted(set(found))


def findings(source: str) -> Iterator[str]:
    """What is forbidden in a Python source."""
    modules = {module for names in FORBIDDEN_IMPORTS.values() for module in names.split()}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        imported = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from {f"import {name.split('.')[0]}" for name in imported if name.split(".")[0] in modules}
        yield from {name for name in imported if FORBIDDEN_CALLS.match(name)}
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.id
        elif isinstance(node, ast.Attribute) and FORBIDDEN_CALLS.fullmatch(ast.unparse(node)):
            yield ast.unparse(node)
        elif isinstance(node, ast.Attribute) and node.attr == "load" and ast.unparse(node.value) == "torch":
            if not any(safe_load(call) for call in ast.walk(tree) if getattr(call, "func", None) is node):
                yield "torch.load that may run code"


def safe_load(call: ast.AST) -> bool:
    assert isinstance(call, ast.Call)
    return any(
        word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in call.keywords
    )


def test_python_does_nothing_that_it_should_not():
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in python_files()
        for what in findings(path.read_text("utf-8"))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        *("eval('1')", "exec('1')", "f = eval", "compile('1', '', 'exec')", "__import__('os')", "globals()['eval']"),
        *("import subprocess", "from subprocess import run", "import os\nos.system('x')", "from os import system"),
        *("os.popen('x')", "os.execv('x', [])", "import ctypes", "import socket", "import urllib.request"),
        *("from urllib import request", "import requests", "from http import client", "def f():\n    import aiohttp"),
        *("import pickle", "pickle.loads(b'')", "from importlib import import_module", "np.load('x')", "import pip"),
        *("torch.load(p)", "torch.load(p, weights_only=False)", "torch.load(p, weights_only=x)", "f = torch.load"),
        *("torch.hub.load('x')", "from torch import hub", "torch.jit.load(p)"),
    ],
)
def test_the_rules_for_python_see(source: str):
    assert list(findings(source))


@pytest.mark.parametrize("source", ["import re\nre.compile('a')", "torch.load(p, weights_only=True)"])
def test_the_rules_for_python_leave_alone(source: str):
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


def test_the_pages_part_makes_no_code_no_markup_and_asks_nobody():
    scripts = sorted((ROOT / "web").rglob("*.*js"))
    assert len(scripts) >= 6
    assert {path.name: found for path in scripts if (found := script_findings(path.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    "source",
    [
        *("eval('1')", "new Function('a')", "a.innerHTML = b", "a.outerHTML = b", "a.insertAdjacentHTML('x', b)"),
        *("document.write(a)", "fetch('/a')", "import('./a.js')", "import a from 'https://a.b/c.js'", "import 'a'"),
        *("a.setAttribute('onclick', b)", "setTimeout('a', 1)", "const a = 'https://a.b'", "const a = '//a.b'"),
    ],
)
def test_the_rules_for_scripts_see(source: str):
    assert script_findings(source)


def test_the_rules_for_scripts_leave_alone():
    assert (
        script_findings("// see https://a.b\n/* eval(a) */\nimport { a } from './growing.js'\nsetTimeout(() => a, 1)")
        == []
    )
