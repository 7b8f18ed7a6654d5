"""Baking: a model's file with LoRAs added to its weights."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..adapters.architecture import architecture_of
from ..adapters.base import Lora, Replacement
from ..compute.context import CancelCheck, Progress, no_cancel, no_progress
from ..compute.precision import full_precision
from ..errors import LoraError
from ..io.atomic_write import write_whole
from ..io.paths import folder_name
from ..io.safetensors_file import StoredTensor, metadata_room, read
from ..lazy import LazyTensor
from ..numerics.finite import require_fits
from ..provenance import metadata as file_metadata
from ..provenance import recipe
from .additions import Addition, add, match
from .model_file import ModelFile, matrix_shape, read_model, with_names_of
from .quantised import NOT_WEIGHTS, Scaled, in_dtype, rescaled, scale_of


@dataclass(frozen=True)
class Baked:
    """The file written, how many of its tensors changed, and what the user should know."""

    path: Path
    changed: int
    notes: tuple[str, ...]


@full_precision()
def bake(
    model_path: Path,
    loras: Sequence[Lora],
    output: Path,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    check: CancelCheck = no_cancel,
    progress: Progress = no_progress,
) -> Baked:
    """Write a copy of a model's file with the LoRAs added to its weights, at their strengths and block weights.

    Keys, order, dtypes and metadata stay, and a recipe is added; a tensor that no LoRA changes has the same bytes. Each
    changed tensor is one sum in float32 (float64 if it is float64), rounded once. ``dtype`` stores the weights of the
    model and the text encoders in another precision, except float8 ones. Unless ``overwrite`` is set, an existing file
    is kept and a number is appended to the name. ``progress`` is called with the bytes written so far and in total.

    Raises LoraError, before anything is written, for what ``read_model`` and ``match`` refuse, for quantised weights
    other than float8, if the file has none of the LoRAs' weights, and if the disk is too small.
    """
    model = read_model(Path(model_path))
    model = with_names_of(model, next((found for found in map(architecture_of, loras) if found is not None), None))
    matched = match(model, loras)
    if not matched.additions:
        raise LoraError(_nothing_found(model, loras, matched.missing))
    contents = _contents(model, matched.additions, dtype, check)
    metadata = file_metadata.fitted(_metadata(model, loras, dtype), metadata_room(contents))
    output = Path(output)
    _require_space(output, contents)
    hash_key = file_metadata.HASH if file_metadata.HASH in model.metadata else ""
    written = write_whole(output, contents, metadata, overwrite, check, progress, hash_key)
    return Baked(written, len(matched.additions), tuple(_notes(model, loras, matched.missing, matched.count)))


def _contents(
    model: ModelFile, additions: Mapping[str, Sequence[Addition]], dtype: torch.dtype | None, check: CancelCheck
) -> dict[str, LazyTensor]:
    contents = {}
    scales: dict[str, _ScaledSum] = {}
    for key, stored in model.tensors.items():
        converted = key in model.parts and dtype is not None and _is_wide(key, stored)
        wanted = dtype if converted and dtype is not None else stored.dtype
        changes = additions.get(key, ())
        if not changes:
            contents[key] = stored.lazy() if wanted == stored.dtype else _converted(key, stored, wanted)
            continue
        scaled = scale_of(model, key)
        if scaled is None:
            contents[key] = LazyTensor(wanted, stored.shape, partial(_summed, key, stored, changes, wanted, check))
        else:
            total = _ScaledSum(stored, scaled, model.tensors[scaled.key].dtype, changes, check)
            contents[key] = LazyTensor(stored.dtype, stored.shape, total.weight)
            scales[scaled.key] = total
    for key, total in scales.items():
        contents[key] = replace(contents[key], materialize=total.scale_as(contents[key].shape), read_rows=None)
    return contents


def _is_wide(key: str, stored: StoredTensor) -> bool:
    return stored.dtype.is_floating_point and stored.dtype.itemsize > 1 and not key.endswith(NOT_WEIGHTS)


def _converted(key: str, stored: StoredTensor, dtype: torch.dtype) -> LazyTensor:
    def materialize() -> Tensor:
        tensor = read([stored])[0].to(dtype)
        require_fits(tensor, key)
        return tensor

    return LazyTensor(dtype, stored.shape, materialize)


def _summed(
    key: str, stored: StoredTensor, changes: Sequence[Addition], dtype: torch.dtype, check: CancelCheck
) -> Tensor:
    """A tensor with its changes, rounded to ``dtype``."""
    tensor = in_dtype(_sum(stored, changes, check), dtype)
    require_fits(tensor, f"{changes[0].lora}: {key} with the LoRA added")
    return tensor


def _sum(stored: StoredTensor, changes: Sequence[Addition], check: CancelCheck, scale: float = 1.0) -> Tensor:
    tensor = read([stored])[0]
    values = tensor.to(torch.float64 if tensor.dtype == torch.float64 else torch.float32, copy=True)
    del tensor
    if scale != 1:
        values.mul_(scale)
    for change in changes:
        if isinstance(change.adapter, Replacement):  # replaces the values, whatever the strength
            values = change.adapter.value.to(values.dtype).reshape(values.shape).clone()
    added = [change for change in changes if not isinstance(change.adapter, Replacement)]
    add(values.view(matrix_shape(stored.shape)), added, check)
    return values


class _ScaledSum:
    """A float8 weight with its changes, scaled again; weight and scale are separate tensors of the file.

    Only the scale is kept, so that whichever comes first in the file computes it.
    """

    def __init__(
        self,
        stored: StoredTensor,
        scaled: Scaled,
        scale_dtype: torch.dtype,
        changes: Sequence[Addition],
        check: CancelCheck,
    ) -> None:
        self._stored, self._scaled, self._scale_dtype = stored, scaled, scale_dtype
        self._changes, self._check = changes, check
        self._scale: Tensor | None = None

    def weight(self) -> Tensor:
        values = _sum(self._stored, self._changes, self._check, self._scaled.scale)
        require_fits(values, f"{self._changes[0].module}: the weight with the LoRA added")
        weight, self._scale = rescaled(values, self._stored.dtype, self._scale_dtype)
        return weight

    def scale_as(self, shape: tuple[int, ...]) -> Callable[[], Tensor]:
        def materialize() -> Tensor:
            if self._scale is None:
                self.weight()
            assert self._scale is not None
            return self._scale.reshape(shape)

        return materialize


def _nothing_found(model: ModelFile, loras: Sequence[Lora], missing: Sequence[str]) -> str:
    if not missing:
        return "The LoRAs have no weights to add: they are empty, or their strengths are all 0."
    names = " and ".join(lora.name for lora in loras)
    return (
        f"{model.name} has none of the {len(missing)} weights that {names} change ({missing[0]}), so nothing was "
        "written. Choose the model that the LoRA is for."
    )


def _notes(model: ModelFile, loras: Sequence[Lora], missing: Sequence[str], count: int) -> list[str]:
    notes = list(dict.fromkeys(note for lora in loras for note in lora.notes))
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        notes.append(
            f"{len(missing)} of {count} modules change weights that {model.name} doesn't have, and were left out: "
            f"{', '.join(missing[:3])}{more}."
        )
    with_embeddings = [lora.name for lora in loras if lora.extras]
    if with_embeddings:
        notes.append(f"The embeddings in {' and '.join(with_embeddings)} were left out: a model can't hold them.")
    return notes


def _metadata(model: ModelFile, loras: Sequence[Lora], dtype: torch.dtype | None) -> dict[str, str]:
    """The metadata of the model's file, except for hashes of its tensors, and a recipe."""
    inputs = [recipe.input_of_model(model.name, model.size, model.metadata), *map(recipe.input_of, loras)]
    settings = {} if dtype is None else {"dtype": str(dtype).removeprefix("torch.")}
    kept = {key: value for key, value in model.metadata.items() if key not in file_metadata.OF_THE_TENSORS}
    return kept | {recipe.KEY: recipe.of_inputs("bake", settings, inputs)}


def _require_space(output: Path, contents: Mapping[str, LazyTensor]) -> None:
    """Raise LoraError before hours of writing, rather than at the end of the disk."""
    needed = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in contents.values())
    with suppress(OSError):  # the folder doesn't exist yet, or its file system doesn't say
        free = shutil.disk_usage(output.parent).free
        if free < needed:
            raise LoraError(
                f"{output.name} takes {needed / 1e9:.1f} GB, but the disk of {folder_name(output.parent)} has only "
                f"{free / 1e9:.1f} GB left. Free some space, or choose another folder."
            )
