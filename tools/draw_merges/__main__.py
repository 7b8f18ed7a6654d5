"""``python -m tools.draw_merges``"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from . import modes, ranks, readme, saved, search, strengths
from .drawing import ROOT

HELP = ROOT / "web" / "docs" / "pictures"
README = ROOT / "docs" / "images"


def pictures() -> dict[Path, Callable[[], Image.Image]]:
    """What draws each file."""
    subjects = (strengths, modes, ranks, saved, search)
    of_pages = {page: draw for subject in subjects for page, draw in subject.PICTURES.items()}
    files = {HELP / f"{page}_result.webp": draw for page, draw in of_pages.items()}
    return files | {README / f"{name}.png": draw for name, draw in readme.PICTURES.items()}


def write(picture: Image.Image, file: Path) -> None:
    if file.suffix == ".webp":
        picture.save(file, quality=80, method=6)
    else:
        picture.quantize(64).save(file, optimize=True)


def main(part: str = "") -> None:
    for file, draw in pictures().items():
        if part in file.name:
            write(draw(), file)
            print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
