"""python -m merge: the command line; see cli/.

This file alone in merge/ knows of pictures/, which lies next to it: it hands the drawing of `inspect --picture` to the
command line, so that the core runs without pictures/ and without Pillow.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .cli import program
from .errors import LoraError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns 0, or 1 after an error, which is printed on one line."""
    return program.main(arguments, _draw_inspection)


def _draw_inspection(figure: Any) -> Any:
    """The picture of an inspection, as a Pillow image."""
    try:
        if __package__ == "merge":  # started with python -m merge: merge and pictures are both at the top level
            from pictures.inspection import draw_inspection
        else:
            from ..pictures.inspection import draw_inspection
    except ModuleNotFoundError as error:
        missing = "Pillow (pip install pillow)" if error.name == "PIL" else "the folder pictures/ next to merge/"
        raise LoraError(f"--picture needs {missing}. Without --picture the report is printed as text.") from None
    return draw_inspection(figure)


if __name__ == "__main__":
    sys.exit(main())
