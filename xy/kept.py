"""A cache of merged LoRAs for a running plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from ..merge.adapters.base import Lora
from ..merge.lazy import LazyTensor
from .cell import Cell

# The last two merges are always kept, older ones only while all of them together fit in this many bytes.
KEPT_BYTES = 1024**3
ALWAYS_KEPT = 2


class KeptMerges:
    """Caches merged LoRAs by their cell's settings. Patched models aren't cached: they would keep a base model alive.

    With LoRA settings on one axis and seeds on the other, the same merges come up again and again. Evicts the least
    recently used first, but merges that ignore density last, since a plot over densities needs them in every row.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._merges: dict[Cell, Lora] = {}  # most recently used last

    def get(self, cell: Cell, merge: Callable[[], Lora]) -> Lora:
        """The merge for ``cell``; calls ``merge`` if it isn't cached."""
        cell = cell.essential()
        lora = self._merges.pop(cell, None)
        if lora is None:
            lora = merge()
        self._merges[cell] = lora
        while len(self._merges) > ALWAYS_KEPT and sum(map(_size, self._merges.values())) > self._kept_bytes:
            del self._merges[self._least_useful()]
        return lora

    def clear(self) -> None:
        self._merges.clear()

    def _least_useful(self) -> Cell:
        older = list(self._merges)[:-1]
        return next((cell for cell in older if cell.method.uses_density), older[0])


def _size(lora: Lora) -> int:
    """The bytes of its tensors in memory; those in files count nothing."""
    fields: Iterator[Any] = (field for module in lora.modules.values() for field in vars(module).values())
    held: Iterator[Any] = (field.held if isinstance(field, LazyTensor) else field for field in fields)
    return sum(one.nbytes for one in held if one is not None and isinstance(one, Tensor))
