"""What a module name means: which weight of which model, and which of its rows. Knows nothing about tensors.

reading.py resolves a name to its target, a weight of ComfyUI's model and its rows; writing.py finds the names of a
target; recognition.py finds the architecture; model_files.py says what the keys of a checkpoint are. families/ has the
data, a table for each family of models: facts taken from ComfyUI's key maps (comfy/lora.py and comfy/utils.py), from
diffusers and from trainers. tests/comfy/test_key_maps.py compares them with ComfyUI's key maps.
"""

from __future__ import annotations

from .cleaning import cleaned
from .families import ARCHITECTURES
from .model import Architecture, Target
from .model_files import StoredPart, architecture_of_file, encoder_prefix, parts_of_file, structured
from .reading import resolve
from .recognition import (
    candidates,
    compatible,
    decide,
    find_clash,
    is_known,
    likely,
    recognise,
    shared_architecture,
)
from .row_range import ALL_ROWS, RowRange
from .writing import Style, loadable, mapped_names, name_of_whole, style_name, style_names

__all__ = [
    "ALL_ROWS",
    "ARCHITECTURES",
    "Architecture",
    "RowRange",
    "StoredPart",
    "Style",
    "Target",
    "architecture_of_file",
    "candidates",
    "cleaned",
    "compatible",
    "decide",
    "encoder_prefix",
    "find_clash",
    "is_known",
    "likely",
    "loadable",
    "mapped_names",
    "name_of_whole",
    "parts_of_file",
    "recognise",
    "resolve",
    "shared_architecture",
    "style_name",
    "style_names",
    "structured",
]
