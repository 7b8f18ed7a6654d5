"""Pictures as numbers, to compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(file: Path) -> np.ndarray:
    """The picture (height, width, 3), of a type that differences fit into."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)
