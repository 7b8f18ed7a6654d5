"""The recipe of a LoRA: the files and operations that it was made with, so that it can be made again (replay.py).

A LoRA has its recipe in its metadata under KEY, as JSON:

- `version`: of the pack
- `operation`: "merge", "merge_svd" or "resize"; "load" for a file that was only read, given strengths, and saved;
  "bake" for a model with LoRAs in its weights, "extract" for the difference of two models, which aren't made again
- the settings of the operation that had a part in the result; for a merge also `strength_rule`, `weights` and
  `parameters`, if they are not the defaults of every mode
- `inputs`, a list. An input has
  - `name`, `strength_model` and `strength_clip`
  - `file`, `size` and `sha256` if it is a file
  - `alpha_from` ("trainer" or "tensors") if its header or PEFT's configuration could give it another scale
  - `adapter_config`, the SHA-256 of that configuration, if it was used
  - `made`, its own recipe, if it has one
  - `block_weights`, a list with a text for each time that they were applied

There are no dates and no absolute paths: the same merge gives the same file. recipe_text.py limits depth and size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..adapters.base import Lora
from ..version import VERSION
from .recipe_text import parsed, text_of

KEY = "lora_power_merger"
# In an input: its deltas depend on the weights of a model, which a recipe can't identify.
FROM_MODEL = "from_model_weights"
# In a merge or resize: the architecture that its inputs were resolved with, if their names alone don't decide it.
ARCHITECTURE = "architecture"


def recipe_text(operation: str, settings: Mapping[str, object], loras: Sequence[Lora], strengths: bool = True) -> str:
    """The recipe of a result. ``strengths``: whether the operation applied the inputs' strengths; resizing doesn't."""
    return of_inputs(operation, settings, [input_of(lora, strengths) for lora in loras])


def of_inputs(operation: str, settings: Mapping[str, object], inputs: Sequence[Mapping[str, object]]) -> str:
    """The recipe of a result, given the entries of its inputs."""
    return text_of({"version": VERSION, "operation": operation, **settings, "inputs": list(inputs)})


def input_of_model(file: str, size: int, metadata: Mapping[str, str]) -> dict[str, object]:
    """The entry of a model's file: without a hash, which would take as long as all the rest."""
    entry: dict[str, object] = {"name": file.rpartition(".")[0] or file, "file": file, "size": size}
    return entry | ({"made": parsed(metadata[KEY])} if metadata.get(KEY) else {})


def saved_text(lora: Lora, settings: Mapping[str, object]) -> str:
    """The recipe for the file of a LoRA: with the strengths that are saved into it, and with ``settings`` of saving."""
    made = parsed(lora.metadata.get(KEY))
    if lora.source or not isinstance(made, dict):
        return recipe_text("load", settings, [lora])
    strengths = {"strength_model": lora.strength_model, "strength_clip": lora.strength_clip}
    kept = {name: value for name, value in strengths.items() if value != 1}
    return text_of({**made, **kept, **settings})


def input_of(lora: Lora, strengths: bool = True) -> dict[str, object]:
    """The entry of a LoRA, with its strengths if they had a part in the result."""
    entry: dict[str, object] = {"name": lora.name, **lora.source}
    if strengths:
        entry |= {"strength_model": lora.strength_model, "strength_clip": lora.strength_clip}
    if lora.metadata.get(KEY):
        entry["made"] = parsed(lora.metadata[KEY])
    return entry
