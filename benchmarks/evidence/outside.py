"""An outside judge of characters, where it is installed: RapidOCR, which knows nothing of this benchmark.

    pip install rapidocr-onnxruntime

It reads the concepts in the saved pictures of a few merges and, to compare with, in the true pictures, in the base's
own letters and in pictures of the concept LoRAs alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cases import ALONE, INDEPENDENT, REPORT
from .evaluate import known_pool, read_sheet, truth
from .glyphs import CONCEPTS, STYLES
from .loras import spelled
from .settings import ALONE as ALONE_SETTING
from .units import read_json

SETTINGS = ("concat", "ties_svd", "ties_svd+sum", "karcher_svd+sum")
TRUTH, BASE, ALONE_LORAS = "true pictures", "letters by the base", "concept LoRAs alone"


def read_characters(files: Sequence[Path], known: np.ndarray, ours: Sequence[str]) -> dict[str, list[float]] | None:
    """For each kind of picture the share whose character the outside judge reads, and the share that ours reads.

    ``known``: the base's pictures of known_pool(), ``ours``: what our judge reads there. None where the outside judge
    isn't installed.
    """
    read = _reader()
    if read is None:
        return None
    found: dict[str, list[tuple[bool, bool]]] = {
        TRUTH: [(read(truth(concept, style)[0]) == concept, True) for concept in CONCEPTS for style in STYLES],
        BASE: [
            (read(picture).upper() == letter, our == letter)
            for picture, our, (letter, _) in zip(known, ours, known_pool(), strict=True)
        ],
    }
    names = {spelled(concept): concept for concept in CONCEPTS}
    for path in files:
        result = read_json(path)
        concept = names.get(result["pair"].split("+")[0].split("_")[0])
        kind = _kind(result)
        if concept is not None and kind is not None:
            right = [bool(one) for one in result["concept"]]
            pictures = read_sheet(path.with_suffix(".png"))[: len(right)]
            pairs = zip((read(picture) == concept for picture in pictures), right, strict=True)
            found.setdefault(kind, []).extend(pairs)
    kinds = (TRUTH, BASE, ALONE_LORAS, *SETTINGS)
    return {kind: [round(float(rate), 4) for rate in np.mean(found[kind], 0)] for kind in kinds if kind in found}


def _kind(result: Mapping[str, Any]) -> str | None:
    if result["stratum"] == ALONE and result["setting"] == ALONE_SETTING:
        return ALONE_LORAS
    reported = (result["stratum"], result["half"]) == (INDEPENDENT, REPORT)
    return result["setting"] if reported and result["setting"] in SETTINGS else None


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
