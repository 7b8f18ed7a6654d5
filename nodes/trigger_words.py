"""The trigger words of a loaded LoRA."""

from __future__ import annotations

from ..merge.adapters.base import Lora
from ..merge.provenance.sidecars import tables_of
from ..merge.provenance.trigger_words import trigger_words
from . import comfy_bridge


def words_of(lora: Lora) -> list[str]:
    """From the tables beside the file, if the LoRA is one that ComfyUI lists, and from its metadata; [] if none."""
    file = lora.source.get("file")
    path = comfy_bridge.find_lora(file) if isinstance(file, str) else None
    return trigger_words(lora.metadata, [] if path is None else tables_of(path))
