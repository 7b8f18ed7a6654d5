"""Adapters whose tensors stay in their file until they are used: a merge holds those of one module at a time.

Their values were checked on loading. Use raises LoraError when the file has changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..adapters.base import Adapter, Difference, Replacement, Rows, with_block_weight
from ..io.safetensors_file import Stored, in_memory, read
from ..lazy import Later, made


def later(stored: Stored) -> Later:
    return Later(stored.dtype, stored.shape, lambda: read([stored])[0], is_finite=True)


# Makes an adapter of its tensors by suffix.
Maker = Callable[[Mapping[str, Tensor]], Adapter]


@dataclass(frozen=True, eq=False)
class StoredAdapter(Adapter):
    """An adapter of any family, made anew of the tensors in its file for each use."""

    family: str  # type: ignore[misc]
    name: str
    members: Mapping[str, Tensor | Stored]  # by suffix
    shells: Mapping[str, Tensor]  # the same without numbers, on torch's device "meta"
    make: Maker
    known: Adapter  # what is made of the shells
    block_weight: float = 1.0

    @property
    def parameter(self) -> str:
        return self.known.parameter

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.known.weight_shape

    @property
    def rank(self) -> int:
        return self.known.rank

    @property
    def scale(self) -> float:
        return self.known.scale

    @property
    def has_factors(self) -> bool:
        return self.known.has_factors

    def factors(self) -> tuple[Tensor, Tensor] | None:
        return self._made().factors() if self.has_factors else None

    def dense(self) -> Tensor:
        return self._made().dense()

    def rows(self) -> Rows:
        for suffix, at in self.members.items():
            if (
                isinstance(self.known, Difference)
                and isinstance(at, Stored)
                and self.shells[suffix] is self.known.value
            ):
                return lambda start, stop: read([at.rows(start, stop)])[0].flatten(1).float()
        return self._made().rows()

    def tensors(self) -> Iterator[tuple[str, Tensor | Later]]:
        for suffix, value in with_block_weight(self.known, self.block_weight).tensors():
            at = self.members.get(suffix)
            if isinstance(value, Tensor) and not value.is_meta:
                yield suffix, value
            elif isinstance(at, Stored) and value is self.shells[suffix]:
                yield suffix, later(at)
            else:
                finite = isinstance(value, Later) and value.is_finite
                make, wide = partial(self._weighted, suffix), partial(self._weighted, suffix, wide=True)
                yield suffix, Later(value.dtype, tuple(value.shape), make, finite, wide)

    def _weighted(self, suffix: str, wide: bool = False) -> Tensor:
        value = dict(with_block_weight(self._made(), self.block_weight).tensors())[suffix]
        return value.wide() if wide and isinstance(value, Later) and value.wide is not None else made(value)

    def _made(self) -> Adapter:
        return self.make(in_memory(self.members))


def left_in_file(adapter: Adapter, members: Mapping[str, Tensor | Stored], make: Maker) -> Adapter:
    """An adapter that ``make`` made of these, with the tensors that a file holds left there; itself where none is.

    Vectors are small and replaced parameters are known by their kind: both stay in memory.
    """
    in_file = any(isinstance(value, Stored) for value in members.values())
    if not in_file or len(adapter.weight_shape) < 2 or isinstance(adapter, Replacement):
        return adapter
    shells = {
        suffix: torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Stored) else value
        for suffix, value in members.items()
    }
    return StoredAdapter(adapter.family, adapter.name, members, shells, make, make(shells))
