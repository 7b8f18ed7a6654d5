"""What all cells of one XY node share: the two LoRAs, the settings that no axis changes, and the merges made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..merge.files import load
from ..merge.keys import is_text_encoder
from ..merge.lora import Lora
from ..merge.merger import meet
from ..nodes import comfy_bridge
from ..nodes.apply import apply_lora
from ..nodes.load import display_name
from .cell import Cell
from .kept import KeptMerges

MODEL_AND_CLIP = "model + clip"
APPLY_STRENGTH = (MODEL_AND_CLIP, "model", "clip")


class LoraFile:
    """A LoRA of ComfyUI's loras folders, read once, and again when the file has changed."""

    def __init__(self, lora_name: str) -> None:
        self.name = display_name(lora_name)
        self._lora_name = lora_name
        self._lora: Lora | None = None
        self._read_as: tuple[int, int] | None = None

    def lora(self) -> Lora:
        """Raises LoraError for a file that is missing, damaged, or no LoRA."""
        path = comfy_bridge.lora_path(self._lora_name)
        state = file_state(path)
        if self._lora is None or state != self._read_as:
            self._lora = load(path, self.name, comfy_bridge.check_interrupt)
            self._read_as = state
        return self._lora


class GivenLora:
    """A LoRA that another node made, in place of a file."""

    def __init__(self, lora: Lora) -> None:
        self.name = lora.name
        self._lora = lora

    def lora(self) -> Lora:
        return self._lora


def file_state(path: Path) -> tuple[int, int]:
    """What tells that a file has changed: its size and the time of its last change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


class Sweep:
    """The merges of LoRA a and LoRA b that an XY node's axes run through.

    The files are read in the XY node, which checks them, and stay in memory with it, as do some of the merges
    (``KeptMerges``). ``defaults`` are the settings of a cell whose axes don't say otherwise.
    """

    def __init__(
        self,
        a: LoraFile | GivenLora,
        b: LoraFile | GivenLora,
        defaults: Cell,
        *,
        device: str,
        dtype: str,
        seed: int = 0,
        apply_strength: str = MODEL_AND_CLIP,
    ) -> None:
        self._a, self._b = a, b
        self._defaults = defaults
        self._device, self._dtype, self._seed = device, dtype, seed
        self._strengths = tuple(1.0 if part in apply_strength else 0.0 for part in ("model", "clip"))
        self._merges = KeptMerges()
        self._merged_from: tuple[Lora, Lora] | None = None

    def check(self) -> None:
        """Read the LoRAs and raise LoraError for what would fail in the middle of the sampling."""
        meet([self._a.lora(), self._b.lora()])
        _ = self._defaults.method

    def merged(self, settings: Mapping[str, Any]) -> Lora:
        """The merge for the defaults with these settings in their place. Raises LoraError as the mergers do."""
        pair = (self._a.lora(), self._b.lora())
        if self._merged_from != pair:  # a file has changed
            self._merges.clear()
            self._merged_from = pair
        cell = replace(self._defaults, **settings)
        return self._merges.get(cell, lambda: self._merge(cell, *pair))

    def _merge(self, cell: Cell, a: Lora, b: Lora) -> Lora:
        for_model, for_clip = self._strengths
        a = a.with_strengths(cell.strength_a * for_model, cell.strength_a * for_clip)
        b = b.with_strengths(cell.strength_b * for_model, cell.strength_b * for_clip)
        return cell.merge(a, b, self._seed, comfy_bridge.compute(self._device, self._dtype))

    def apply(self, model: Any, clip: Any, settings: Mapping[str, Any]) -> tuple[Any, Any]:
        """Clones of model and clip (may be None) with the merge on them.

        A text encoder that the merge doesn't touch comes back as it is, so that its texts need no new encoding.
        """
        lora = self.merged(settings)
        if any(is_text_encoder(name) for name in lora.modules):
            return apply_lora(model, clip, lora)
        return apply_lora(model, None, lora)[0], clip
