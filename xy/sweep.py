"""What all cells of one XY node share: the two LoRAs, the fixed settings, and the cached merges."""

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
    """A LoRA file in ComfyUI's loras folders, loaded on first use and again when the file has changed."""

    def __init__(self, lora_name: str) -> None:
        self.name = display_name(lora_name)
        self.file = lora_name
        self._lora: Lora | None = None
        self._loaded_state: tuple[int, ...] | None = None

    def lora(self) -> Lora:
        """Raises LoraError if the file is damaged or isn't a LoRA, FileNotFoundError if it is gone."""
        state = comfy_bridge.file_state(self.file)
        if self._lora is None or state != self._loaded_state:
            self._lora = load(comfy_bridge.lora_path(self.file), self.name, comfy_bridge.check_interrupt)
            self._loaded_state = state
        return self._lora


class GivenLora:
    """A LoRA from another node, used instead of a file."""

    def __init__(self, lora: Lora) -> None:
        self.name = lora.name
        self._lora = lora

    def lora(self) -> Lora:
        return self._lora


def same_lora(a: LoraFile | GivenLora, b: LoraFile | GivenLora) -> bool:
    """Whether a and b are the same file, or the same output of another node."""
    if isinstance(a, GivenLora) or isinstance(b, GivenLora):
        return isinstance(a, GivenLora) and isinstance(b, GivenLora) and a.lora() is b.lora()
    return a.file == b.file


class Sweep:
    """The merges of LoRA a and LoRA b over the axes of one XY node.

    The node loads and checks the LoRAs; each cell then merges them, with a cache of recent merges (``KeptMerges``).
    ``defaults`` are the settings that the cell's axes don't change.
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
        """Load the LoRAs and raise LoraError for anything that would fail only during sampling, in any of the modes."""
        pair = (self._a.lora(), self._b.lora())
        for mode in modes or [self._defaults.mode]:
            replace(self._defaults, mode=mode).check(pair)

    def apply(self, model: Any, clip: Any, settings: Mapping[str, Any]) -> tuple[Any, Any]:
        """Clones of model and clip (which may be None) with the merge for these settings applied.

        A text encoder that the merge doesn't change is returned as is, so that its prompts needn't be encoded again.
        Raises LoraError like the merge nodes.
        """
        lora = self._merged(replace(self._defaults, **settings), model, clip)
        if any(is_text_encoder(module.name) for module in lora.modules.values()):
            return apply_lora(model, clip, lora)
        return apply_lora(model, None, lora)[0], clip

    def _merged(self, cell: Cell, model: Any, clip: Any) -> Lora:
        pair = (self._a.lora(), self._b.lora())
        source: tuple[object, ...] = pair  # new objects when a file has changed
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
    """The objects that hold the weights of a model and a text encoder; all their clones share them."""
    return [model.model] if clip is None else [model.model, clip.cond_stage_model]
