"""What all cells of one XY node share: the two LoRAs, the settings that no axis changes, and the merges made."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..merge.adapters.base import Lora
from ..merge.files import load
from ..merge.merging.key_resolver import names_decide
from ..merge.names.prefixes import is_text_encoder
from ..nodes import comfy_bridge
from ..nodes.apply import apply_lora
from ..nodes.base_weights import model_names, with_base_weights
from ..nodes.load import display_name
from .cell import Cell
from .kept import KeptMerges

MODEL_AND_CLIP = "model + clip"
APPLY_STRENGTH = (MODEL_AND_CLIP, "model", "clip")


class LoraFile:
    """A LoRA of ComfyUI's loras folders, checked once, and again when the file has changed."""

    def __init__(self, lora_name: str) -> None:
        self.name = display_name(lora_name)
        self.file = lora_name
        self._lora: Lora | None = None
        self._read_as: tuple[int, ...] | None = None

    def lora(self) -> Lora:
        """Raises LoraError for a file that is damaged or no LoRA, FileNotFoundError for one that is gone."""
        state = comfy_bridge.file_state(self.file)
        if self._lora is None or state != self._read_as:
            self._lora = load(comfy_bridge.lora_path(self.file), self.name, comfy_bridge.check_interrupt)
            self._read_as = state
        return self._lora


class GivenLora:
    """A LoRA that another node made, in place of a file."""

    def __init__(self, lora: Lora) -> None:
        self.name = lora.name
        self._lora = lora

    def lora(self) -> Lora:
        return self._lora


def are_one(a: LoraFile | GivenLora, b: LoraFile | GivenLora) -> bool:
    """Whether LoRA a and LoRA b are one and the same: one file, or one output of another node."""
    if isinstance(a, GivenLora) or isinstance(b, GivenLora):
        return isinstance(a, GivenLora) and isinstance(b, GivenLora) and a.lora() is b.lora()
    return a.file == b.file


class Sweep:
    """The merges of LoRA a and LoRA b that an XY node's axes run through.

    The files are checked in the XY node and read again for each merge; some of the merges stay in memory with it
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
        self._merged_from: tuple[object, ...] = ()

    def check(self, modes: Iterable[str] = ()) -> None:
        """Read the LoRAs and raise LoraError for what would fail in the middle of the sampling, in any of the modes."""
        pair = (self._a.lora(), self._b.lora())
        for mode in modes or [self._defaults.mode]:
            replace(self._defaults, mode=mode).check(pair)

    def apply(self, model: Any, clip: Any, settings: Mapping[str, Any]) -> tuple[Any, Any]:
        """Clones of model and clip (may be None) with the merge for these settings on them.

        A text encoder that the merge doesn't touch comes back as it is, so that its texts need no new encoding. Raises
        LoraError as the mergers do.
        """
        lora = self._merged(replace(self._defaults, **settings), model, clip)
        if any(is_text_encoder(module.name) for module in lora.modules.values()):
            return apply_lora(model, clip, lora)
        return apply_lora(model, None, lora)[0], clip

    def _merged(self, cell: Cell, model: Any, clip: Any) -> Lora:
        pair = (self._a.lora(), self._b.lora())
        source: tuple[object, ...] = pair  # changes with the files
        asks_model = not names_decide(pair)
        if asks_model or any(module.needs_base for lora in pair for module in lora.modules.values()):
            source += tuple(weakref.ref(part) for part in _base_models(model, clip))
        if self._merged_from != source:
            self._merges.clear()
            self._merged_from = source

        def merge() -> Lora:
            for_model, for_clip = self._strengths
            a, b = (
                with_base_weights(lora.with_strengths(strength * for_model, strength * for_clip), model, clip)
                for lora, strength in zip(pair, (cell.strength_a, cell.strength_b), strict=True)
            )
            names = model_names(model, clip) if asks_model else None
            return cell.merge(a, b, self._seed, comfy_bridge.compute(self._device, self._dtype), names)

        return self._merges.get(cell, merge)


def _base_models(model: Any, clip: Any) -> list[Any]:
    """What all clones of a model and a text encoder share: it holds their own weights."""
    return [model.model] if clip is None else [model.model, clip.cond_stage_model]
