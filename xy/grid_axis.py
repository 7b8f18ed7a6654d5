"""Reads the X and Y inputs of PM XY Grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..merge.errors import LoraError
from .capsule import CAPSULE_TYPE, Capsule
from .sampling import SAMPLING_AXES, Sampling, SamplingAxis
from .values import distinct_lines

# In characters. Prompts and labels of other packs may be as long as they like; their margins would dwarf the cells.
MAX_LABEL = 120
CAPSULE_METHODS = ("getLabel", "set_x_capsule", "pre_define_model", "get_result", "set_result")


@dataclass(frozen=True)
class GridAxis:
    """The values of an axis: capsules, or values for ``sampling``. An unconnected axis has a single value, None."""

    values: list[Any]
    sampling: SamplingAxis | None = None

    def labels(self, base: Sampling) -> list[str]:
        """One label per value, all different; none for an unconnected axis."""
        if self.sampling is not None:
            texts = [self.sampling.label(value, self.change(base, value)) for value in self.values]
        else:
            texts = [str(capsule.getLabel()) for capsule in self.values if capsule is not None]
        return distinct_lines(texts, MAX_LABEL)

    def change(self, sampling: Sampling, value: Any) -> Sampling:
        return sampling if self.sampling is None else self.sampling.change(sampling, value)

    def capsule(self, index: int) -> Any:
        """The capsule at a position; None if the axis isn't one of capsules."""
        return self.values[index] if self.sampling is None else None


def read_axis(name: str, axis: Any) -> GridAxis:
    """The axis connected to ``name`` (X or Y). Raises LoraError if the grid can't plot it."""
    if axis is None:
        return GridAxis([None])
    if not (isinstance(axis, tuple) and len(axis) == 2 and isinstance(axis[1], list)):
        raise LoraError(f"{name}: expected an XY axis, got {type(axis).__name__}.")
    kind, values = axis
    if not values:
        raise LoraError(f"The axis connected to {name} has no values.")
    if kind in SAMPLING_AXES:
        return GridAxis(values, SAMPLING_AXES[kind])
    if kind != CAPSULE_TYPE:
        raise LoraError(
            f"{name} is an axis of type {kind}, which PM XY Grid can't plot. Connect an XY node of this pack, XY "
            f"capsules from another pack, or one of these axes of efficiency-nodes-comfyui: {', '.join(SAMPLING_AXES)}."
        )
    for value in values:
        missing = [method for method in CAPSULE_METHODS if not callable(getattr(value, method, None))]
        if missing:
            raise LoraError(
                f"{name} contains a {type(value).__name__}, which isn't an XY capsule: it has no {missing[0]}()."
            )
    return GridAxis(values)


def require_different(x: GridAxis, y: GridAxis) -> None:
    """Raise LoraError if both axes change one setting of the same merge: only the value on Y would count."""
    ours = [axis.capsule(0) for axis in (x, y) if isinstance(axis.capsule(0), Capsule)]
    if len(ours) == 2 and ours[0].sweep is ours[1].sweep and not ours[0].settings.keys().isdisjoint(ours[1].settings):
        raise LoraError("X and Y are connected to the same output. Connect another one to Y, or disconnect it.")


def samplings(base: Sampling, x: GridAxis, y: GridAxis) -> dict[tuple[int, int], Sampling]:
    """The settings of every cell (column, row). Raises LoraError if an axis replaces words that the prompt lacks."""
    columns = [x.change(base, value) for value in x.values]
    _require_found("X", x, [base])
    _require_found("Y", y, columns)
    return {
        (column, row): y.change(sampling, value)
        for row, value in enumerate(y.values)
        for column, sampling in enumerate(columns)
    }


def _require_found(name: str, axis: GridAxis, before: list[Sampling]) -> None:
    if axis.sampling is None or axis.sampling.prompt is None:
        return
    prompt = axis.sampling.prompt
    for found, _ in axis.values:
        if not any(found in getattr(sampling, prompt) for sampling in before):
            raise LoraError(f"{name} replaces {found!r} in the {prompt} prompt, but the prompt doesn't contain it.")
