"""Makes the pack importable as `lora_pack`, whatever its folder is called, without running its root __init__.py."""

from __future__ import annotations

import gc
import os
import signal
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

# One thread for numpy too, which reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
import torch

# SIGTERM ends the tests like Ctrl+C does, with their fixtures, so that no server keeps running.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# Until the tests run: imports and collection make few cycles, and looking for them takes seconds.
gc.disable()

ROOT = Path(__file__).resolve().parents[1]

# `python -m pytest` puts the current folder on sys.path, where our nodes/ would hide ComfyUI's nodes.py.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

# ComfyUI loads the pack under the name of its folder, so inside it imports are relative. Tests need a fixed name.
package = types.ModuleType("lora_pack")
package.__path__ = [str(ROOT)]
sys.modules.setdefault("lora_pack", package)


TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def read_our_own_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a torch older than 2.10 the pack refuses pickles; tests read their own all the same."""
    if TORCH < (2, 10):
        monkeypatch.setattr("lora_pack.merge.files.PICKLES_SAFE_SINCE", (0, 0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """One thread on small matrices, where more would mostly wait. Tests of ComfyUI use as many as ComfyUI does."""
    torch.set_num_threads(THREADS if "comfy" in item.keywords else 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by their folder, by their fixtures, fuzz tests by their file's name, and cases of sampled tests."""
    cases: Counter[str] = Counter()
    for item in items:
        if sampled := item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            if cases[test] % sampled.args[0]:
                item.add_marker("slow")
            cases[test] += 1
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in ("browser", "cuda"):
            item.add_marker(folder)
        if folder == "comfy" or {"server", "comfy"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("comfy")
        if item.path.name.startswith("test_fuzz_"):
            item.add_marker("fuzz")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """What exists now stays until the end; the garbage collector need not look through it again and again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)  # so that pytest-xdist is not required
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile` means TwoServers."""
    if config.getoption("dist") != "loadfile":
        return None
    from lora_pack.tests.support.workers import TwoServers

    return TwoServers(config, log)


# The fixtures around a real ComfyUI, for tests/comfy and tests/browser alike.
pytest_plugins = ["lora_pack.tests.comfy.fixtures"]
