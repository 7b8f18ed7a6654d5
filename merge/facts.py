"""What a LoRA file is, from its header: model family, rank, size, trigger words, recipe. Weights are not read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from .adapters.architecture import architecture_of
from .adapters.base import Lora, LoraModule
from .block_weights.apply import fits_blocks
from .errors import LoraError
from .files import SAFETENSORS
from .formats.reader import outline
from .io import safetensors_file
from .io.atomic_write import refusals_named
from .io.paths import folder_name
from .io.safetensors_file import StoredTensor
from .lazy import LazyTensor
from .provenance.recipe import KEY
from .provenance.sidecars import preview_of, tables_of
from .provenance.trigger_words import base_model_named, trigger_words

# path, name -> the file's facts
Facts = Callable[[Path, str], "FileFacts"]
# Tensors this small are read: shapes that are stored as values (reshape_weight).
FEW = 8


@dataclass(frozen=True)
class FileFacts:
    """What a file's header, and the files beside it, say about a LoRA."""

    size: int  # bytes
    family: str | None  # the model's name; None: not recognised
    group: str | None  # the same for models whose LoRAs can be merged, such as Flux and Chroma
    adapters: str  # "LoRA", "LoHa", ... or several of them
    ranks: tuple[int, int] | None  # lowest and highest; None if no module has factors
    modules: int
    trigger_words: list[str]
    base_model: str  # as the trainer or the download site calls it
    has_preview: bool
    has_recipe: bool

    @property
    def summary(self) -> str:
        """One line: "SD 1.5, rank 4, 3 MB"."""
        return ", ".join([self.family or "unknown model", *_kind(self), size_text(self.size)])


def facts_of(path: Path, name: str) -> FileFacts:
    """The facts of a file. Raises LoraError if it can't be read as a LoRA, and for pickles, which have no header."""
    with refusals_named(f"{path.name} can't be read from {folder_name(path.parent)}", "Check the file and its folder."):
        size = path.stat().st_size
        tables = tables_of(path)
        lora = outline_of(path, name)
        ranks = [module.rank for module in lora.modules.values() if isinstance(module, LoraModule)]
        architecture = architecture_of(lora)
        return FileFacts(
            size=size,
            family=architecture.name if architecture else None,
            group=f"{architecture.family} {architecture.size}" if architecture else None,
            adapters=", ".join(dict.fromkeys(module.family for module in lora.modules.values())),
            ranks=(min(ranks), max(ranks)) if ranks else None,
            modules=len(lora.modules),
            trigger_words=trigger_words(lora.metadata, tables),
            base_model=base_model_named(lora.metadata, tables),
            has_preview=preview_of(path) is not None,
            has_recipe=KEY in lora.metadata,
        )


def outline_of(path: Path, name: str) -> Lora:
    """The LoRA in a file with its modules' names, ranks and shapes, but without their values.

    Raises LoraError for damaged files, files without LoRA weights, and pickles.
    """
    if path.suffix.lower() not in SAFETENSORS:
        raise LoraError(f"{name}: a {path.suffix} file has no header to look into. It is read when it is loaded.")
    stored, metadata = safetensors_file.index(path)
    return outline({key: _stand_in(key, tensor) for key, tensor in stored.items()}, name, metadata)


def _stand_in(key: str, stored: StoredTensor) -> LazyTensor:
    """A tensor of ones that takes no memory, in place of one in the file."""
    if math.prod(stored.shape) <= FEW and not key.endswith(".alpha"):
        return stored.lazy()
    return LazyTensor(stored.dtype, stored.shape, lambda: torch.ones(()).to(stored.dtype).expand(stored.shape))


def recipe_of(path: Path, name: str) -> str:
    """The text of the recipe in a file's header; "" if it has none. Raises LoraError as ``outline_of`` does."""
    return outline_of(path, name).metadata.get(KEY, "")


def presets_that_fit(path: Path, name: str, presets: Mapping[str, str]) -> list[str] | None:
    """The names of the block presets whose weights fit the file's blocks; None if its model is not recognised."""
    lora = outline_of(path, name)
    if architecture_of(lora) is None:
        return None
    return [preset for preset, spec in presets.items() if fits_blocks(lora, spec)]


def cached_by_state(compute: Facts, state: Callable[[Path], object]) -> Facts:
    """``compute(path, name)``, kept until ``state(path)`` changes. Threads may compute the same facts twice."""
    kept: dict[Path, tuple[object, FileFacts | LoraError]] = {}

    def facts(path: Path, name: str) -> FileFacts:
        now = state(path)
        if path not in kept or kept[path][0] != now:
            try:
                kept[path] = now, compute(path, name)
            except LoraError as error:
                kept[path] = now, error
        found = kept[path][1]
        if isinstance(found, LoraError):
            raise LoraError(str(found))
        return found

    return facts


def _kind(facts: FileFacts) -> list[str]:
    if facts.ranks is None:
        return [facts.adapters]
    low, high = facts.ranks
    rank = f"rank {high}" if low == high else f"rank {low} to {high}"
    return [rank] if facts.adapters == "LoRA" else [facts.adapters, rank]


def size_text(size: int) -> str:
    """Bytes as megabytes, or kilobytes below one: "3 MB"."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_each:
            number = size / bytes_each
            return f"{number:.1f} {unit}" if unit == "GB" else f"{number:.0f} {unit}"
    return f"{max(1, round(size / 1000))} kB"
