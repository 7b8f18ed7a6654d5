"""Merges and cuts by the pack's own command line.

Starting Python and torch takes longer than such a small merge. The command line's `main` is therefore called in this
process, with the arguments that a user would type: it parses them, reads the files and writes the result as always.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from merge.__main__ import main as command_line

from .settings import Setting


def merge(files: Sequence[tuple[Path, float]], setting: Setting, output: Path) -> None:
    """`python -m merge merge A:STRENGTH B:STRENGTH ... -o OUTPUT`. Raises RuntimeError with its message if it fails."""
    inputs = [f"{path}:{strength * setting.strength:g}" for path, strength in files]
    run(["merge", *inputs, *setting.options(), "-o", str(output), "--overwrite"])


def cut(file: Path, rank: int, output: Path) -> None:
    """`python -m merge resize FILE --rank RANK -o OUTPUT`."""
    unfinished = output.with_name(f"unfinished-{output.name}")
    run(["resize", str(file), "--rank", str(rank), "-o", str(unfinished), "--overwrite"])
    unfinished.replace(output)


def run(arguments: Sequence[str]) -> str:
    """What the command printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command_line(arguments)
    if code:
        raise RuntimeError(f"python -m merge {' '.join(arguments)}: {err.getvalue().strip()}")
    return out.getvalue()
