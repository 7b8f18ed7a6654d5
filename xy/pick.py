"""The cell that the user picked: reading it, its settings, and its LoRA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.errors import LoraError
from ..merge.merging.merge_factors import merge_factors
from ..nodes import comfy_bridge
from ..nodes.base_weights import model_names, with_base_weights
from ..pictures.grid_layout import Place
from .capsule import Capsule, merges_of
from .grid_axis import GridAxis
from .sampling import Sampling
from .values import one_line


def read_pick(text: str, columns: int, rows: int) -> Place | None:
    """The cell in a text such as "2,1": column and row, from 1; None for an empty one.

    Raises LoraError with the text if the grid has no such cell.
    """
    if not text.strip():
        return None
    found = re.fullmatch(r"(\d{1,9})\s*[,;x ]\s*(\d{1,9})", text.strip())
    place = (int(found[1]) - 1, int(found[2]) - 1) if found else None
    if place is None or not (0 <= place[0] < columns and 0 <= place[1] < rows):
        raise LoraError(
            f"pick is {one_line(text)!r}, which is no cell of this grid of {columns} x {rows} (columns x rows). Click "
            "a cell on the node, write its column and row from 1, such as 2,1, or leave pick empty."
        )
    return place


def picked_lora(model: Any, clip: Any, x: GridAxis, y: GridAxis, place: Place) -> Lora:
    """The LoRA of a cell, at strength 1. Raises LoraError if no axis has merged LoRAs."""
    capsules = x.capsule(place[0]), y.capsule(place[1])
    foreign = [type(capsule).__name__ for capsule in capsules if not isinstance(capsule, Capsule | None)]
    if foreign:
        raise LoraError(
            f"The cell {text_of(place)} has no LoRA to pick: one of its axes is from another pack ({foreign[0]}), "
            "which doesn't say what it applies. Empty pick."
        )
    loras = [sweep.lora(settings, model, clip) for sweep, settings in merges_of(*capsules)]
    if not loras:
        raise LoraError(
            f"The cell {text_of(place)} has no LoRA to pick: its axes change only the sampling. Connect an XY node "
            "with LoRAs to X or Y, or empty pick."
        )
    if len(loras) == 1:
        return loras[0]
    weighted = [with_base_weights(lora, model, clip) for lora in loras]
    compute = comfy_bridge.compute("auto", "float32")
    return merge_factors(weighted, "concat", compute=compute, model=model_names(model, clip))


def text_of(place: Place) -> str:
    """A cell as the widget ``pick`` has it: "2,1"."""
    return f"{place[0] + 1},{place[1] + 1}"


def describe(
    x: GridAxis, y: GridAxis, place: Place, sampling: Sampling, conditioning: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a cell as plain JSON: of its merges, and of sampling without prompts that aren't used."""
    merges = merges_of(x.capsule(place[0]), y.capsule(place[1]))
    used = {name: value for name, value in asdict(sampling).items() if conditioning.get(name) is None}
    return {
        "cell": text_of(place),
        "merges": [sweep.describe(settings) for sweep, settings in merges],
        "sampling": used,
    }
