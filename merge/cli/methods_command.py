"""methods: the merge modes and their parameters."""

from __future__ import annotations

import argparse
import textwrap

from ..methods.registry import DELTA_MODES, FACTOR_MODES, SVD_SUFFIX, method_of

NAME = "methods"
HELP = "list the merge modes and their parameters"
EXAMPLES = ("methods",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> None:
    for title, modes in (("On factors:", FACTOR_MODES), ("On deltas, truncated by SVD:", DELTA_MODES)):
        print(title)
        for mode in modes:
            _describe(mode)


def _describe(mode: str) -> None:
    method = method_of(mode)
    print(f"\n  {mode}: {method.label}, {method.reference}")
    print(_indented(method.on_deltas if mode.endswith(SVD_SUFFIX) else method.on_factors))
    shared = [name for name, used in (("--density", method.uses_density), ("--seed", method.uses_seed)) if used]
    if shared:
        print(_indented(f"uses {' and '.join(shared)}"))
    for one in method.parameters:
        text = one.tooltip.removeprefix(f"{mode}: ")
        print(_indented(f"--set {one.name}={one.default:g} ({one.least:g} to {one.most:g}): {text}"))
    if mode == FACTOR_MODES[-1]:
        print()


def _indented(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ")
