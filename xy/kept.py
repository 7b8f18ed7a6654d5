"""The merged LoRAs that are kept while a plot runs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..merge.adapters.base import Lora
from .cell import Cell

# Beyond the last two, merged LoRAs are kept as long as all together take no more than this.
KEPT_BYTES = 1024**3
ALWAYS_KEPT = 2


class KeptMerges:
    """Merged LoRAs by their cell's settings, never patched models: those would hold on to an old base model.

    An axis of LoRA settings beside one of seeds comes by the same merge again and again. What has to go is the least
    recently used; merges that no density changes go last, since every row or column of a plot over densities asks for
    them.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._merges: dict[Cell, Lora] = {}  # the most recently used last

    def get(self, cell: Cell, merge: Callable[[], Lora]) -> Lora:
        """The merge for ``cell``, by calling ``merge`` where it isn't kept."""
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
    fields = (field for module in lora.modules.values() for field in vars(module).values())
    return sum(field.nbytes for field in fields if isinstance(field, Tensor))
