"""Which rows of a model file's tensors each LoRA changes, and adding the changes up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..adapters.architecture import architecture_of, architectures_of
from ..adapters.base import Adapter, Lora, LoraModule
from ..adapters.combine import shape_text
from ..compute.context import CancelCheck
from ..compute.devices import CPU_DEVICE
from ..errors import LoraError
from ..merging.delta_rows import delta_rows
from ..names import Target, compatible, resolve
from ..numerics.blocking import row_blocks
from .model_file import ModelFile, Part, matrix_shape
from .quantised import scale_of


@dataclass(frozen=True)
class Run:
    """``count`` rows of a stored tensor, from ``stored`` on, that an adapter has from ``adapter`` on."""

    stored: int
    adapter: int
    count: int


@dataclass(frozen=True, eq=False)
class Addition:
    """What one module of a LoRA adds to a stored tensor. ``runs`` count its columns if it is ``transposed``."""

    lora: str
    adapter: Adapter
    strength: float
    runs: tuple[Run, ...]
    transposed: bool = False

    @property
    def module(self) -> str:
        return f"{self.lora}: module {self.adapter.name}"


@dataclass(frozen=True, eq=False)
class Matched:
    """The additions by the key of their tensor, and the modules whose weight the file lacks."""

    additions: Mapping[str, Sequence[Addition]]
    missing: tuple[str, ...]
    count: int  # modules with a strength other than 0


def match(model: ModelFile, loras: Sequence[Lora]) -> Matched:
    """Find the tensors that the LoRAs change at a strength other than 0.

    Raises LoraError if a LoRA is for another kind of model or has other shapes, and for modules that can't be added
    without computing with ComfyUI (DoRA and others that depend on the weight) or that widen a layer.
    """
    places: dict[tuple[str, str], list[tuple[str, Part]]] = {}
    for key, parts in model.parts.items():
        for part in parts:
            places.setdefault(part.weight, []).append((key, part))
    additions: dict[str, list[Addition]] = {}
    missing, count = [], 0
    for lora in loras:
        _require_same_kind(model, lora)
        for adapter in lora.modules.values():
            strength = lora.strength_of(adapter)
            if strength == 0:
                continue
            count += 1
            _require_addable(lora, adapter)
            target = resolve(adapter.name, model.architecture)
            found = False
            for key, part in places.get((target.weight, adapter.parameter), ()):
                runs = tuple(_runs(model, key, part, lora, adapter, target))
                if runs:
                    found = True
                    addition = Addition(lora.name, adapter, strength, runs, part.stored.transposed)
                    additions.setdefault(key, []).append(addition)
            if not found:
                missing.append(f"{lora.name}: {adapter.name}")
    return Matched(additions, tuple(missing), count)


def add(matrix: Tensor, additions: Sequence[Addition], check: CancelCheck) -> None:
    """Add the changes to a stored tensor as a matrix (rows, columns) of float32 or float64, in place."""
    for addition in additions:
        into = matrix.mT if addition.transposed else matrix
        delta = delta_rows(addition.adapter, CPU_DEVICE)
        for run in addition.runs:
            for start, stop in row_blocks(run.count, into.shape[1]):
                check()
                rows = delta(run.adapter + start, run.adapter + stop).reshape(stop - start, into.shape[1])
                into[run.stored + start : run.stored + stop].add_(rows, alpha=addition.strength)


def _require_same_kind(model: ModelFile, lora: Lora) -> None:
    ours, theirs = architecture_of(lora), model.architecture
    if ours is None or theirs is None:
        return
    if not any(compatible(fitting, theirs) for fitting in architectures_of(lora)):
        raise LoraError(
            f"{lora.name} is for {ours.name}, but {model.name} is {theirs.name}. Choose a model of the kind "
            f"{ours.name}, or a LoRA for {theirs.name}."
        )


def _require_addable(lora: Lora, adapter: Adapter) -> None:
    if adapter.is_weight_dependent:
        raise LoraError(
            f"{lora.name}: the change of {adapter.family} module {adapter.name} depends on the model's weight and "
            "can't be added to a file. Resize or merge the LoRA with its model connected (PM Resize LoRA, PM Merge "
            "LoRA SVD), save it, and bake the result."
        )
    if isinstance(adapter, LoraModule) and adapter.reshape is not None:
        raise LoraError(
            f"{lora.name}: module {adapter.name} widens its layer to {shape_text(adapter.reshape)}, which a file's "
            "weight can't follow. Apply this LoRA instead of baking it."
        )


def _runs(model: ModelFile, key: str, part: Part, lora: Lora, adapter: Adapter, target: Target) -> Iterator[Run]:
    """The rows that a part of a stored tensor and an adapter of the same weight have in common."""
    stored_shape = model.tensors[key].shape
    stored_rows, stored_columns = matrix_shape(stored_shape, part.stored.transposed)
    rows, columns = matrix_shape(adapter.weight_shape)
    first, count = int(stored_rows * part.stored.rows.start), stored_rows * part.stored.rows.size
    if columns != stored_columns or rows / target.rows.size != count / part.target.rows.size:
        scale_of(model, key)  # refuses weights of 4 bits, which are stored in another shape
        raise LoraError(
            f"{lora.name}: module {adapter.name} changes a weight of shape {shape_text(adapter.weight_shape)}, but "
            f"{key} in {model.name} has shape {shape_text(stored_shape)}. Choose the model that the LoRA is for."
        )
    for here, in_weight, size in _in_weight(part.target, int(count)):
        for there, also_in_weight, other_size in _in_weight(target, rows):
            start, stop = max(in_weight, also_in_weight), min(in_weight + size, also_in_weight + other_size)
            if start < stop:
                yield Run(first + here + start - in_weight, there + start - also_in_weight, stop - start)


def _in_weight(target: Target, rows: int) -> list[tuple[int, int, int]]:
    """Where ``rows`` rows of a target are in its weight: runs of (first row here, first row there, how many)."""
    start = int(rows / target.rows.size * target.rows.start)
    if not target.swapped:
        return [(0, start, rows)]
    half = rows // 2
    return [(0, start + half, half), (half, start, half)]
