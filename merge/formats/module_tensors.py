"""The tensors of one module while its file is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..lazy import LazyTensor


@dataclass(frozen=True)
class ModuleTensors:
    """The tensors of one module, by suffix (how their keys end).

    ``values`` are in memory, checked to be finite, and dropped once the module is read. ``lazy`` are the same tensors,
    read from their file again at each use: what a family puts into its adapter from here stays in the file. ``source``
    names file and module in messages.
    """

    name: str
    source: str
    values: Mapping[str, Tensor]
    lazy: Mapping[str, LazyTensor]

    def only(self, suffixes: Collection[str]) -> ModuleTensors:
        """Those of the tensors that have one of these suffixes."""
        return replace(
            self,
            values={suffix: tensor for suffix, tensor in self.values.items() if suffix in suffixes},
            lazy={suffix: tensor for suffix, tensor in self.lazy.items() if suffix in suffixes},
        )

    def replaced(self, values: Mapping[str, Tensor]) -> ModuleTensors:
        """With these tensors, in memory, in place of those of the file or in addition to them."""
        lazy = {suffix: LazyTensor.of(tensor) for suffix, tensor in values.items()}
        return replace(self, values={**self.values, **values}, lazy={**self.lazy, **lazy})

    def in_memory(self) -> ModuleTensors:
        """With the lazy tensors in memory too, for adapters that must not depend on their file."""
        return self.replaced(self.values)
