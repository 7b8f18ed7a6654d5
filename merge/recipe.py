"""The metadata of what the pack makes: how it was made, from what, in a form that can be read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .lora import Lora
from .version import VERSION

KEY = "lora_power_merger"


def metadata(
    operation: str, settings: Mapping[str, object], loras: Sequence[Lora], strengths: bool = True
) -> dict[str, str]:
    """The metadata of a result. No date and no path of a machine: the same merge gives the same file.

    ``strengths`` says whether the operation used up the inputs' strengths; the resizer only carries them on.
    """
    recipe = {
        "version": VERSION,
        "operation": operation,
        **settings,
        "inputs": [_input(lora, strengths) for lora in loras],
    }
    return {"format": "pt", KEY: json.dumps(recipe, sort_keys=True, ensure_ascii=False)}


def _input(lora: Lora, strengths: bool) -> dict[str, object]:
    entry: dict[str, object] = {"name": lora.name}
    if strengths:
        entry |= {"strength_model": lora.strength_model, "strength_clip": lora.strength_clip}
    made = lora.metadata.get(KEY)
    if made:
        entry["made"] = _parsed(made)
    return entry


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text  # somebody else's text under our key: kept as it is
