"""An outside judge of characters, where it is installed: RapidOCR, which knows nothing of this benchmark.

    pip install rapidocr-onnxruntime

It reads the concepts in the saved pictures of a few merges. It misses many that people read, in decorative fonts above
all, so that its rates are to be compared with each other and with its rate on the true pictures.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cases import INDEPENDENT, REPORT
from .evaluate import read_sheet, truth
from .glyphs import CONCEPTS, STYLES
from .loras import spelled
from .units import read_json

SETTINGS = ("concat", "ties_svd", "ties_svd+sum", "karcher_svd+sum")


def read_concepts(files: Sequence[Path]) -> dict[str, Any] | None:
    """For each setting the share of pictures in which the outside judge, and in which ours, reads the concept.

    ``truth``: the outside judge's share of the true pictures. None where it isn't installed.
    """
    read = _reader()
    if read is None:
        return None
    found: dict[str, list[tuple[bool, bool]]] = {}
    names = {spelled(concept): concept for concept in CONCEPTS}
    for path in files:
        result = read_json(path)
        if (result["stratum"], result["half"]) == (INDEPENDENT, REPORT) and result["setting"] in SETTINGS:
            concept = names[result["pair"].split("+")[0]]
            ours = [bool(right) for right in result["concept"]]
            pictures = read_sheet(path.with_suffix(".png"))[: len(ours)]
            pairs = zip((read(picture) == concept for picture in pictures), ours, strict=True)
            found.setdefault(result["setting"], []).extend(pairs)
    true = [read(truth(concept, style)[0]) == concept for concept in CONCEPTS for style in STYLES]
    rates = {
        setting: [round(float(rate), 4) for rate in np.mean(found[setting], 0)]
        for setting in SETTINGS
        if setting in found
    }
    return {"truth": round(float(np.mean(true)), 4), "settings": rates}


def _reader() -> Callable[[np.ndarray], str] | None:
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError:
        return None
    recogniser = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def read(picture: np.ndarray) -> str:
        wide = np.pad(picture, ((0, 0), (32, 32)), constant_values=1)  # it expects a line of text
        colours = (np.repeat(wide[:, :, None], 3, 2) * 255).astype(np.uint8)
        lines, _ = recogniser(colours, use_det=False, use_cls=False, use_rec=True)
        return unicodedata.normalize("NFKC", lines[0][0]).strip() if lines else ""

    return read
