"""LoRA modules whose factors stay in their file until they are used: a merge holds those of one module at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .lora import Later, LowRank, low_rank_tensors
from .tensorfile import Stored, read


@dataclass(frozen=True, eq=False)
class StoredLoraModule(LowRank):
    """As LoraModule, with the places of its factors; each use reads them anew. Their values were checked on loading.

    Raises LoraError on use when the file has changed since it was loaded.
    """

    name: str
    up_at: Stored
    down_at: Stored
    alpha: float
    block_weight: float = 1.0
    reshape: tuple[int, ...] | None = None

    @property
    def up(self) -> Tensor:  # type: ignore[override]
        return read([self.up_at])[0]

    @property
    def down(self) -> Tensor:  # type: ignore[override]
        return read([self.down_at])[0]

    @property
    def rank(self) -> int:
        return self.down_at.shape[0]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.up_at.shape[0], *self.down_at.shape[1:])

    def factors(self) -> tuple[Tensor, Tensor]:
        up, down = read([self.up_at, self.down_at])
        return up.flatten(1), down.flatten(1)

    def tensors(self) -> Iterator[tuple[str, Tensor | Later]]:
        alpha = self.alpha * self.block_weight
        yield from low_rank_tensors(_later(self.up_at), _later(self.down_at), alpha, self.reshape)


def _later(stored: Stored) -> Later:
    return Later(stored.dtype, stored.shape, lambda: read([stored])[0])
