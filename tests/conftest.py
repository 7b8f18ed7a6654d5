"""Makes the pack importable as `lora_pack`, whatever its folder is called, without running its root __init__.py."""

from __future__ import annotations

import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# `python -m pytest` puts the current folder on sys.path, where our nodes/ would hide ComfyUI's nodes.py.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

# ComfyUI loads the pack under the name of its folder, so inside it imports are relative. Tests need a fixed name.
package = types.ModuleType("lora_pack")
package.__path__ = [str(ROOT)]
sys.modules.setdefault("lora_pack", package)


@pytest.fixture(autouse=True)
def pickles_of_our_own_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of an older torch refuse pickles; the tests read their own all the same."""
    if tuple(map(int, version("torch").split(".")[:2])) < (2, 10):
        monkeypatch.setattr("lora_pack.merge.files.PICKLES_SAFE_SINCE", (0, 0))


# The fixtures around a real ComfyUI, for tests/comfy and tests/browser alike: one server serves both.
pytest_plugins = ["lora_pack.tests.comfy.fixtures"]
