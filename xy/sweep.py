"""What all cells of one XY node share: the LoRAs, the fixed settings, and the cached merges."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..merge.adapters.base import Lora, Replacement
from ..merge.files import load
from ..merge.merging.key_resolver import names_decide
from ..merge.names.prefixes import is_text_encoder
from ..merge.provenance.recipe import FROM_MODEL, input_of
from ..nodes import comfy_bridge
from ..nodes.apply import apply_lora
from ..nodes.base_weights import model_names, with_base_weights
from ..nodes.load import display_name
from .cell import Cell
from .contents import contents
from .kept import KeptMerges

MODEL_AND_CLIP = "model + clip"
APPLY_STRENGTH = (MODEL_AND_CLIP, "model", "clip")


class LoraFile:
    """A LoRA file in ComfyUI's loras folders, loaded on first use and again when the file has changed."""

    def __init__(self, lora_name: str, strength_model: float = 1.0, strength_clip: float = 1.0) -> None:
        self.name = display_name(lora_name)
        self.file = lora_name
        self._strengths = strength_model, strength_clip
        self.loaded: Lora | None = None
        self._loaded_state: tuple[int, ...] | None = None

    def lora(self) -> Lora:
        """Raises LoraError if the file is damaged or isn't a LoRA, FileNotFoundError if it is gone."""
        state = comfy_bridge.file_state(self.file)
        if self.loaded is None or state != self._loaded_state:
            lora = load(comfy_bridge.lora_path(self.file), self.name, comfy_bridge.check_interrupt)
            self.loaded = lora.with_strengths(*self._strengths)
            self._loaded_state = state
        return self.loaded


class GivenLora:
    """A LoRA from another node, used instead of a file."""

    def __init__(self, lora: Lora) -> None:
        self.name = lora.name
        self.loaded = lora

    def lora(self) -> Lora:
        return self.loaded


Source = LoraFile | GivenLora


def same_lora(a: Source, b: Source) -> bool:
    """Whether a and b are the same file, or the same output of another node."""
    if isinstance(a, GivenLora) or isinstance(b, GivenLora):
        return isinstance(a, GivenLora) and isinstance(b, GivenLora) and a.lora() is b.lora()
    return a.file == b.file


class Sweep:
    """The merges of some LoRAs over the axes of one XY node.

    The node loads and checks the LoRAs; each cell then merges them, with a cache of recent merges (``KeptMerges``).
    ``defaults`` are the settings that the cell's axes don't change; its strengths are completed with 1. The settings
    that the methods take are those of a cell's axes, by the names that ``Cell.changed`` knows. ``concat_of_one``:
    whether a LoRA alone goes through concat even if that has to decompose its modules, which takes long.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        defaults: Cell,
        *,
        device: str,
        dtype: str,
        apply_strength: str = MODEL_AND_CLIP,
        concat_of_one: bool = True,
    ) -> None:
        self._sources = tuple(sources)
        self._concat_of_one = concat_of_one
        missing = len(self._sources) - len(defaults.strengths)
        self._defaults = replace(defaults, strengths=(*defaults.strengths, *[1.0] * missing))
        self._device, self._dtype = device, dtype
        self._apply_strength = apply_strength
        self._parts = tuple(1.0 if part in apply_strength else 0.0 for part in ("model", "clip"))
        self._merges = KeptMerges()
        self._merged_from: tuple[object, ...] = ()

    def check(self, variants: Iterable[Mapping[str, Any]] = ({},)) -> None:
        """Load the LoRAs and raise LoraError for anything that would fail only during sampling.

        ``variants`` are settings of cells that can fail each in their own way, such as those with different modes.
        """
        for settings in variants:
            cell = self._cell(settings)
            cell.check([lora for _, lora in self._taken(cell)])

    def apply(self, model: Any, clip: Any, settings: Mapping[str, Any]) -> tuple[Any, Any]:
        """Clones of model and clip (which may be None) with the merge for these settings applied.

        A text encoder that the merge doesn't change is returned as is, so that its prompts needn't be encoded again.
        Raises LoraError like the merge nodes.
        """
        lora = self.lora(settings, model, clip)
        if any(is_text_encoder(module.name) for module in lora.modules.values()):
            return apply_lora(model, clip, lora)
        return apply_lora(model, None, lora)[0], clip

    def lora(self, settings: Mapping[str, Any], model: Any, clip: Any) -> Lora:
        """The merge for these settings, bit for bit what the merge node gives. Raises LoraError like the merge nodes.

        ``model`` and ``clip`` (which may be None) are for LoRAs that depend on their weights or names.
        """
        cell = self._cell(settings)
        taken = self._taken(cell)
        if self._is_left_alone(taken):
            return self._weighted(cell, *taken[0])
        loras = [lora for _, lora in taken]
        asks_model = not names_decide(loras)
        source: tuple[object, ...] = tuple(source.loaded for source in self._sources)  # new when a file has changed
        if asks_model or any(map(_depends_on_weights, loras)):
            source += tuple(weakref.ref(part) for part in _base_models(model, clip))
        if self._merged_from != source:
            self._merges.clear()
            self._merged_from = source

        def merge() -> Lora:
            weighted = [with_base_weights(self._weighted(cell, number, lora), model, clip) for number, lora in taken]
            names = model_names(model, clip) if asks_model else None
            return cell.merge(weighted, comfy_bridge.compute(self._device, self._dtype), names)

        return self._merges.get(cell, merge)

    def identity(self, settings: Mapping[str, Any]) -> tuple[object, ...]:
        """Hashable: equal for settings whose merges are equal, in any sweep. Depends on the files' contents."""
        cell = self._cell(settings)
        loras: list[tuple[str, float, float]] = []
        taken = self._taken(cell)
        for number, lora in taken:
            weighted = self._weighted(cell, number, lora)
            contained = contents(lora, comfy_bridge.check_interrupt)
            loras.append((contained, weighted.strength_model, weighted.strength_clip))
        merged = replace(cell.essential(), strengths=(), taken=()), self._device, self._dtype
        return tuple(loras), None if self._is_left_alone(taken) else merged

    def describe(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """These settings in plain JSON: ``loras``, then those of the merge by the names of the merge nodes' widgets.

        A LoRA is described as an input in a recipe (merge/provenance/recipe.py), with its strengths in the cell and
        ``strength``, the factor that the cell's axes have in them. One that is applied as it is has no merge.
        """
        cell = self._cell(settings)
        taken = self._taken(cell)
        loras = [
            input_of(self._weighted(cell, number, lora)) | {"strength": cell.strength_of(number)}
            for number, lora in taken
        ]
        if self._is_left_alone(taken):
            return {"loras": loras}
        for described, (_, lora) in zip(loras, taken, strict=True):
            if _depends_on_weights(lora):
                described[FROM_MODEL] = True
        by_model = {} if names_decide([lora for _, lora in taken]) else {FROM_MODEL: True}
        return {"loras": loras, **cell.described(), "device": self._device, "dtype": self._dtype, **by_model}

    def alone(self, number: int) -> Sweep:
        """A sweep of a single one of its LoRAs, counted from 1, which is applied as it is."""
        parts = {"device": self._device, "dtype": self._dtype, "apply_strength": self._apply_strength}
        return Sweep([self._sources[number - 1]], Cell("concat"), **parts, concat_of_one=False)

    def strengths(self, settings: Mapping[str, Any]) -> dict[int, float]:
        """What multiplies the strengths of each LoRA in a cell, by the LoRA's number."""
        cell = self._cell(settings)
        return {number: cell.strength_of(number) for number, _ in self._taken(cell)}

    def takes_part(self, number: int) -> bool:
        """Whether a LoRA, counted from 1, comes with a strength at all: one that is switched off comes with 0."""
        lora = self._sources[number - 1].lora().with_strengths(*self._parts)
        return any(lora.strength_of(module) for module in lora.modules.values())

    def name(self, number: int) -> str:
        """The name of a LoRA, counted from 1."""
        return self._sources[number - 1].name

    def _cell(self, settings: Mapping[str, Any]) -> Cell:
        return self._defaults.changed(settings)

    def _taken(self, cell: Cell) -> list[tuple[int, Lora]]:
        numbers = cell.taken or range(1, len(self._sources) + 1)
        return [(number, self._sources[number - 1].lora()) for number in numbers]

    def _is_left_alone(self, taken: Sequence[tuple[int, Lora]]) -> bool:
        """Whether these LoRAs, with their numbers, are a single one that is applied as it is."""
        return not self._concat_of_one and len(taken) == 1 and _lacks_factors(taken[0][1])

    def _weighted(self, cell: Cell, number: int, lora: Lora) -> Lora:
        strength = cell.strength_of(number)
        return lora.with_strengths(*(strength * part for part in self._parts))


def _depends_on_weights(lora: Lora) -> bool:
    return any(module.is_weight_dependent for module in lora.modules.values())


def _lacks_factors(lora: Lora) -> bool:
    """Whether concat would have to decompose a module: a full difference, or one that depends on the model's weight."""
    matrices = (module for module in lora.modules.values() if not isinstance(module, Replacement))
    return any(
        module.is_weight_dependent or (len(module.weight_shape) > 1 and not module.has_factors) for module in matrices
    )


def _base_models(model: Any, clip: Any) -> list[Any]:
    """The objects that hold the weights of a model and a text encoder; all their clones share them."""
    return [model.model] if clip is None else [model.model, clip.cond_stage_model]
