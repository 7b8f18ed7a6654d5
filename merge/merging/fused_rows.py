"""Brings the contributions to one weight to the same rows.

Some models fuse several linear layers into one weight, and a LoRA adapts either the fused weight or some of its rows
(matching.py has an example). The result has modules for these row ranges; the first rule that applies counts:

1. The whole weight, if ComfyUI could not load a module for one of the LoRAs' row ranges, because it maps no name to it
   (q, k and v of HunyuanVideo).
2. The LoRAs' row ranges, if no two of them overlap (to_q and to_k).
3. The LoRAs' row ranges other than the whole weight, if together they make up the weight (to_q, to_k and to_v), and the
   first LoRA has one of them.
4. The whole weight.

Contributions with more rows are sliced, contributions with fewer rows are padded with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import torch

from ..adapters.base import Adapter, Replacement, with_block_weight
from ..adapters.combine import join, same_weight, shape_text
from ..adapters.retarget import retarget, rows_of
from ..errors import LoraError
from ..names import ALL_ROWS, Architecture, RowRange, Target, mapped_names, name_of_whole


@dataclass(frozen=True, eq=False)
class Contribution:
    """What one LoRA adds to a weight: the adapter, its target, its strength, and which LoRA it is."""

    adapter: Adapter
    target: Target
    strength: float
    input_index: int  # counted from 1
    lora: str

    @property
    def effective_weight(self) -> float:
        """The factor of ``up @ down`` in the merge: strength times alpha / rank."""
        return self.strength * self.adapter.scale


def align_rows(
    contributions: Sequence[Contribution], architecture: Architecture | None
) -> list[tuple[RowRange, list[Contribution]]]:
    """The contributions to one weight by row range, at most one for each LoRA; exact.

    Raises LoraError if they are for weights of different heights.
    """
    first = contributions[0].target
    same = all(contribution.target == first for contribution in contributions)
    if same and (first.is_whole or _is_mapped(first.weight, first.rows, architecture)):
        return [(first.rows, _one_per_lora(contributions))]
    _require_same_height(contributions)
    aligned = []
    for rows in _result_rows(contributions, architecture):
        name, swapped = _name_of_rows(rows, contributions, architecture)
        wanted = Target(first.weight, rows, swapped)
        overlapping = [contribution for contribution in contributions if contribution.target.rows.overlaps(rows)]
        aligned.append((rows, _one_per_lora([_with_target(one, wanted, name) for one in overlapping])))
    return aligned


def _result_rows(contributions: Sequence[Contribution], architecture: Architecture | None) -> list[RowRange]:
    """The row ranges that the result has modules for, by the rules at the top of this file."""
    weight = contributions[0].target.weight
    ranges = list(dict.fromkeys(contribution.target.rows for contribution in contributions))
    parts = sorted(rows for rows in ranges if rows != ALL_ROWS)
    all_mapped = all(_is_mapped(weight, rows, architecture) for rows in parts)
    if not all_mapped and _is_mapped(weight, ALL_ROWS, architecture):
        return [ALL_ROWS]
    if all(upper.stop <= lower.start for upper, lower in pairwise(sorted(ranges))):
        return ranges
    return parts if ranges[0] != ALL_ROWS and _make_up_the_weight(parts) else [ALL_ROWS]


def _make_up_the_weight(parts: Sequence[RowRange]) -> bool:
    """Whether row ranges, in order, cover all rows once."""
    return (parts[0].start, parts[-1].stop) == (ALL_ROWS.start, ALL_ROWS.stop) and all(
        upper.stop == lower.start for upper, lower in pairwise(parts)
    )


def _is_mapped(weight: str, rows: RowRange, architecture: Architecture | None) -> bool:
    """Whether ComfyUI maps a name to these rows. Without an architecture, all names are from a model's key map."""
    return architecture is None or any(mapped_names(Target(weight, rows), architecture))


def _name_of_rows(
    rows: RowRange, contributions: Sequence[Contribution], architecture: Architecture | None
) -> tuple[str, bool]:
    """The name of the result's module for these rows, and whether its halves are swapped.

    It is the name that the first LoRA with these rows has. If the first LoRA of all has other rows, which ComfyUI maps
    no name to, it is kohya's name of the whole weight.
    """
    first = contributions[0].target
    if first.rows == rows or _is_mapped(first.weight, first.rows, architecture):
        for contribution in contributions:
            if contribution.target.rows == rows:
                return contribution.adapter.name, contribution.target.swapped
    assert architecture is not None  # a model's own names of rows only overlap with its name of the whole weight
    return name_of_whole(first.weight, architecture), False


def _with_target(contribution: Contribution, wanted: Target, name: str) -> Contribution:
    adapter = retarget(contribution.adapter, contribution.target, wanted, name)
    return replace(contribution, adapter=adapter, target=wanted)


def _one_per_lora(contributions: Sequence[Contribution]) -> list[Contribution]:
    """The contributions with those of one LoRA added up, at the strength of its first."""
    joined = []
    for _, of_one_lora in groupby(contributions, lambda contribution: contribution.input_index):
        first, *others = of_one_lora
        if not others:
            joined.append(first)
            continue
        adapter = with_block_weight(first.adapter, 1.0)
        for other in others:
            addend = with_block_weight(other.adapter, other.strength / first.strength)
            adapter = join(adapter, addend, f"{first.lora}: module {first.adapter.name}")
        joined.append(replace(first, adapter=adapter))
    return joined


def _require_same_height(contributions: Sequence[Contribution]) -> None:
    """Raise LoraError if two contributions are for fused weights with different numbers of rows."""
    first, *others = contributions
    height = rows_of(first.adapter, first.target)
    for other in others:
        other_height = rows_of(other.adapter, other.target)
        if other_height != height:
            raise LoraError(
                f"{first.lora} and {other.lora} are not for the same model: module {first.adapter.name} belongs to a "
                f"weight with {height} rows, module {other.adapter.name} to one with {other_height}."
            )


def require_same_weight(first: Contribution, second: Contribution) -> None:
    """Raise LoraError if two LoRAs disagree on a weight's shape, or if one replaces what the other changes."""
    a, b = first.adapter, second.adapter
    if not same_weight(a.weight_shape, b.weight_shape):
        raise LoraError(
            f"{first.lora} and {second.lora} are not for the same model: module {a.name} adapts a weight of shape "
            f"{shape_text(a.weight_shape)} in {first.lora} and {shape_text(b.weight_shape)} in {second.lora}."
        )
    if isinstance(a, Replacement) != isinstance(b, Replacement) or (
        isinstance(a, Replacement) and isinstance(b, Replacement) and not torch.equal(a.value, b.value)
    ):
        raise LoraError(
            f"{first.lora} and {second.lora} can't be merged: one replaces module {a.name} as a whole (set_weight), "
            "the other changes it or replaces it differently. Leave one of them out."
        )
