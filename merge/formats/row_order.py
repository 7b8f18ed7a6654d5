"""Doubts about the rows of a fused weight: a trainer can sort them in an order that no name tells.

DiffSynth-Studio trains MiniMax H3 on MiniMax's own file, whose qkv_proj has the rows of q, k and v head by head
(diffsynth/models/minimax_h3_dit.py), or on ComfyUI's, which has all of q, then k, then v (minimax_h3_dit_comfy.py). It
writes both LoRAs with the same names and shapes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..errors import for_user
from ..names import Architecture

FUSED = ".attn.qkv_proj"
DIFFSYNTH = ".lora_A.default.weight"


def doubts(groups: Mapping[str, Collection[str]], architecture: Architecture | None, name: str) -> list[str]:
    """Notes for the user. ``groups``: the suffixes of a file's tensors by module."""
    if architecture is None or architecture.name != "MiniMax H3":
        return []
    doubtful = [module for module, suffixes in groups.items() if module.endswith(FUSED) and DIFFSYNTH in suffixes]
    if not doubtful:
        return []
    return [
        for_user(
            f"{name} has the names of DiffSynth-Studio. If it was trained there on MiniMax's own file, the rows of "
            f"{doubtful[0]} are sorted by head. ComfyUI and this pack can't tell: they read all of q, then k, then v, "
            "and such a LoRA doesn't show what it learned. Trained on ComfyUI's file, it is right. Look at its "
            "pictures alone before you merge it."
        )
    ]
