"""How a LoRA was made: from which files, by which operations, in a form that can be read back and replayed.

The recipe of a value is in its metadata under KEY, as JSON: `operation` ("merge", "merge_svd", "resize"; "load" for a
file that was only read, weighted and saved), its settings, and `inputs`. An input has its name and strengths; if it is
a file, `file`, `size` and `sha256`; `alpha_from` ("trainer" or "tensors") if its header or PEFT's configuration could
give it another scale, and `adapter_config`, the SHA-256 of that configuration, if it counted; if it was made, or the
file tells how it was, `made`, the recipe of it; and `block_weights`, one text for each time that they were given. No
date and no path of a machine: the same merge gives the same file. recipe_text.py bounds the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..adapters.base import Lora
from ..version import VERSION
from .recipe_text import parsed, text_of

KEY = "lora_power_merger"
# In an input: its change was computed from the weights of a model, which a recipe can't name.
FROM_MODEL = "from_model_weights"
# In a merge: what its inputs were taken for, where their names alone don't decide it.
ARCHITECTURE = "architecture"


def recipe_text(operation: str, settings: Mapping[str, object], loras: Sequence[Lora], strengths: bool = True) -> str:
    """The recipe of a result. ``strengths``: whether the operation used the inputs' up; the resizer carries them on."""
    recipe = {
        "version": VERSION,
        "operation": operation,
        **settings,
        "inputs": [_input(lora, strengths) for lora in loras],
    }
    return text_of(recipe)


def saved_text(lora: Lora, settings: Mapping[str, object]) -> str:
    """The recipe of a LoRA as it is saved, with the strengths that go into the file and how it is written."""
    made = parsed(lora.metadata.get(KEY))
    if lora.source or not isinstance(made, dict):
        return recipe_text("load", settings, [lora])
    strengths = {"strength_model": lora.strength_model, "strength_clip": lora.strength_clip}
    kept = {name: value for name, value in strengths.items() if value != 1}
    return text_of({**made, **kept, **settings})


def _input(lora: Lora, strengths: bool) -> dict[str, object]:
    entry: dict[str, object] = {"name": lora.name, **lora.source}
    if strengths:
        entry |= {"strength_model": lora.strength_model, "strength_clip": lora.strength_clip}
    if lora.metadata.get(KEY):
        entry["made"] = parsed(lora.metadata[KEY])
    return entry
