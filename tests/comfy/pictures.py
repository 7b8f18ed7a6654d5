"""Reads pictures as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(file: Path) -> np.ndarray:
    """The picture (height, width, 3), in a type wide enough for differences."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)
