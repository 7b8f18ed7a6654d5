"""The kinds of functions that merge the LoRAs of one weight.

kind         what it looks at                             what it returns                  rank before truncation
Elementwise  the elements of each LoRA, then of all       the elements of the result       full
Blockwise    the elements of all deltas together          the elements of the result       full
Reweight     the inner products of the deltas             a multiple of each delta         at most the sum of ranks
InCore       the deltas in common orthonormal bases       the result in those bases        at most the sum of ranks

Elementwise and Blockwise work in blocks of rows. Only Elementwise can act on factors as well as on deltas. Reweight and
InCore form no dense delta. No kernel may change its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..numerics.core_space import CoreSpace
from .blocked_matrix import Block, BlockedMatrix, Mask
from .consensus import Consensus
from .mask_stream import MaskStream


@dataclass(frozen=True)
class Settings:
    """What the user chose for a method: the density, and the value of each parameter that the method declares."""

    density: float = 1.0
    parameters: Mapping[str, float] = field(default_factory=dict)


# (matrix, settings, random stream) -> the mask of its blocks
Sparsifier = Callable[[BlockedMatrix, Settings, MaskStream], Mask]
# (the same block of every LoRA) -> that block of the result
MergeBlocks = Callable[[Sequence[Block]], Tensor]
# (deltas at strength 1, strengths, settings, a random stream for each) -> what merges their blocks
Fit = Callable[[Sequence[BlockedMatrix], Sequence[float], Settings, Sequence[MaskStream]], MergeBlocks]


def keep_values(block: Block) -> Tensor:
    """The mask that keeps everything."""
    return block.values


def keep_all(matrix: BlockedMatrix, settings: Settings, stream: MaskStream) -> Mask:
    """No sparsification."""
    return keep_values


@dataclass(frozen=True)
class Elementwise:
    """Sparsifies each LoRA by itself; ``consensus`` then merges the blocks that are left, weighted by the strengths."""

    consensus: Consensus
    sparsify: Sparsifier = keep_all

    def fit(
        self,
        matrices: Sequence[BlockedMatrix],
        strengths: Sequence[float],
        settings: Settings,
        streams: Sequence[MaskStream],
    ) -> MergeBlocks:
        masks = [self.sparsify(matrix, settings, stream) for matrix, stream in zip(matrices, streams, strict=True)]
        return lambda blocks: self.consensus([mask(one) for mask, one in zip(masks, blocks, strict=True)], strengths)


@dataclass(frozen=True)
class Blockwise:
    """``fit`` looks at all deltas as often as it needs to, and returns what merges them, a block of rows at a time."""

    fit: Fit


@dataclass(frozen=True)
class Reweight:
    """The result is the sum of ``coefficients`` times the deltas.

    It gets the Gram matrix (T, T) of the deltas that aren't zero, in float64 on the CPU with the strengths multiplied
    in, and the strengths; it returns T numbers, or None where the method is not defined. The result is the plain sum
    there, and ``undefined`` tells the user why.
    """

    coefficients: Callable[[Tensor, Sequence[float], Settings], Sequence[float] | None]
    undefined: str = ""


@dataclass(frozen=True)
class InCore:
    """``merge`` gets the deltas in a CoreSpace, strengths multiplied in, and returns the core (a, b) of the result.

    With ``keeps_columns`` it returns (a, n): only the left basis is multiplied back.
    """

    merge: Callable[[CoreSpace, Settings, Sequence[MaskStream]], Tensor]
    keeps_columns: bool = False


Kernel = Elementwise | Blockwise | Reweight | InCore
