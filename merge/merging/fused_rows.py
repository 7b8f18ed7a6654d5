"""One LoRA's part in a weight of a merge, and bringing those of several LoRAs to the same rows of a fused weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby, pairwise

import torch

from ..adapters.base import Adapter, Replacement, with_block_weight
from ..adapters.combine import join, same_weight, shape_text
from ..adapters.row_slices import cut_out, rows_of, set_into, swap_halves
from ..errors import LoraError
from ..names import Architecture, Target, mapped_names, name_of_whole

Window = tuple[Fraction, Fraction]
WHOLE: Window = (Fraction(0), Fraction(1))


@dataclass(frozen=True, eq=False)
class Contribution:
    """One LoRA's part in a weight of the merge: the adapter, its strength, and the LoRA's number among the inputs."""

    adapter: Adapter
    strength: float
    input_index: int
    lora: str

    @property
    def effective_weight(self) -> float:
        """What the product of the factors is multiplied by in the end: strength times alpha / rank."""
        return self.strength * self.adapter.scale


def same_rows(
    weight: str, present: Sequence[tuple[Contribution, Target]], architecture: Architecture | None
) -> list[tuple[str, list[Contribution]]]:
    """The shares of one weight by the rows that they change, with a name for these rows.

    Shares of the same rows stay as they are, those of different rows (to_q and to_k) apart. Where one LoRA has the
    parts and another the whole, all are brought to the form of the first LoRA that has the weight; to the whole one
    where its parts are not all there. Parts that ComfyUI maps no name for always become the whole. Exact: a delta's
    rows are the rows of its up factor.
    """
    meanings = {meaning for _, meaning in present}
    if len(meanings) == 1 and (present[0][1].is_whole or _has_name(weight, _window(present[0][1]), architecture)):
        return [
            (_rows_name(weight, *_window(present[0][1])), _one_a_lora([contribution for contribution, _ in present]))
        ]
    _require_same_rows(present)
    found = []
    for window in _form(weight, present, architecture):
        name, swapped = _spelling(weight, window, present, architecture)
        contributions = []
        for contribution, meaning in present:
            if meaning.start < window[1] and window[0] < meaning.stop:
                contributions.append(
                    replace(contribution, adapter=_brought(contribution.adapter, meaning, name, window, swapped))
                )
        found.append((_rows_name(weight, *window), _one_a_lora(contributions)))
    return found


def _window(meaning: Target) -> Window:
    return meaning.start, meaning.stop


def _rows_name(weight: str, start: Fraction, stop: Fraction) -> str:
    return weight if (start, stop) == WHOLE else f"{weight}[{start}:{stop}]"


def _has_name(weight: str, window: Window, architecture: Architecture | None) -> bool:
    """Whether ComfyUI maps a name for these rows. Without an architecture the names are a connected model's own."""
    return architecture is None or any(mapped_names(Target(weight, *window), architecture))


def _form(
    weight: str, present: Sequence[tuple[Contribution, Target]], architecture: Architecture | None
) -> list[Window]:
    """The rows that the result's modules have: parts only where each of them has a name, or the whole has none."""
    windows = list(dict.fromkeys(_window(meaning) for _, meaning in present))
    parts = sorted(window for window in windows if window != WHOLE)
    named = all(_has_name(weight, part, architecture) for part in parts) or not _has_name(weight, WHOLE, architecture)
    if all(a[1] <= b[0] for a, b in pairwise(sorted(windows))):
        return windows if named else [WHOLE]
    tile = parts and (parts[0][0], parts[-1][1]) == WHOLE and all(a[1] == b[0] for a, b in pairwise(parts))
    return parts if tile and windows[0] != WHOLE and named else [WHOLE]


def _spelling(
    weight: str, window: Window, present: Sequence[tuple[Contribution, Target]], architecture: Architecture | None
) -> tuple[str, bool]:
    """The first LoRA's name for these rows, and whether it swaps their halves; kohya's for parts without a name."""
    first = _window(present[0][1])
    if first == window or _has_name(weight, first, architecture):
        for contribution, meaning in present:
            if _window(meaning) == window:
                return contribution.adapter.name, meaning.swapped
    assert architecture is not None  # without one a name always means a whole weight
    return name_of_whole(weight, architecture), False


def _brought(adapter: Adapter, meaning: Target, name: str, window: Window, swapped: bool) -> Adapter:
    if meaning.swapped != swapped:
        adapter = swap_halves(adapter, name)
    if _window(meaning) == window:
        return adapter
    if window == WHOLE:
        return set_into(adapter, name, meaning.start, int(rows_of(adapter, meaning)))
    return cut_out(adapter, name, *window)


def _one_a_lora(contributions: Sequence[Contribution]) -> list[Contribution]:
    """The parts that one LoRA has of these rows as one share: its strength is that of the first."""
    joined = []
    for _, same in groupby(contributions, lambda contribution: contribution.input_index):
        first, *others = same
        if not others:
            joined.append(first)
            continue
        adapter = with_block_weight(first.adapter, 1.0)
        for other in others:
            part = with_block_weight(other.adapter, other.strength / first.strength)
            adapter = join(adapter, part, f"{first.lora}: module {first.adapter.name}")
        joined.append(replace(first, adapter=adapter))
    return joined


def _require_same_rows(present: Sequence[tuple[Contribution, Target]]) -> None:
    first, meaning = present[0]
    for contribution, other in present[1:]:
        if rows_of(first.adapter, meaning) != rows_of(contribution.adapter, other):
            raise LoraError(
                f"{first.lora} and {contribution.lora} are not for the same model: module {first.adapter.name} is of a "
                f"weight with {rows_of(first.adapter, meaning)} rows and {contribution.adapter.name} of one with "
                f"{rows_of(contribution.adapter, other)}."
            )


def require_same_weight(first: Contribution, second: Contribution) -> None:
    """Raise LoraError where two LoRAs take one weight for different shapes, or one replaces what the other changes."""
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
            f"{first.lora} and {second.lora} can't be merged: one replaces module {a.name} as a whole (set_weight) and "
            "the other changes or replaces it differently. Leave one of them out."
        )
