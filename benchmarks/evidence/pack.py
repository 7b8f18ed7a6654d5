"""The score and the search of the pack's nodes, without ComfyUI, which the nodes beside them need."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from .fonts import ROOT

NAME = "power_merger"


def part_of_pack(name: str) -> Any:
    """A module of the pack such as "xy.scoring". The packages that hold it don't run their own __init__.py."""
    package = NAME
    _register(package, [str(ROOT)])
    folder = ROOT
    for part in name.split(".")[:-1]:
        package, folder = f"{package}.{part}", folder / part
        _register(package, [str(folder)])
    return importlib.import_module(f"{NAME}.{name}")


def _register(name: str, path: list[str]) -> None:
    if name not in sys.modules:
        module = types.ModuleType(name)
        module.__path__ = path
        sys.modules[name] = module
