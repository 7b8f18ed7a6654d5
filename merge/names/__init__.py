"""Architectures: what the names in a LoRA mean, whatever their spelling, and which architecture a LoRA is for.

One file per family of models holds its tables; families/ lists them, recognition.py tells which one a LoRA is for,
naming.py reads and writes names. The tables are facts of ComfyUI's key maps (comfy/lora.py and comfy/utils.py) and of
what trainers write; tests/comfy/test_key_maps.py holds them against the maps of the ComfyUI at hand.
"""

from __future__ import annotations

from .cleaning import cleaned
from .families import ARCHITECTURES
from .model import Architecture, Target
from .naming import Style, loadable, mapped_names, name_of_whole, spell, split_spelling, target
from .recognition import candidates, clash, compatible, decide, is_known, likely, recognise, shared

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Style",
    "Target",
    "candidates",
    "clash",
    "cleaned",
    "compatible",
    "decide",
    "is_known",
    "likely",
    "loadable",
    "mapped_names",
    "name_of_whole",
    "recognise",
    "shared",
    "spell",
    "split_spelling",
    "target",
]
