"""The pictures that scores are measured against: without LoRAs, and with each LoRA of a plot alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..merge.errors import LoraError
from .capsule import Capsule, merges_of
from .cell import strength_name
from .grid_axis import GridAxis
from .pick import Place
from .sampling import Sampling
from .sweep import Sweep
from .values import distinct_labels, without_folders


@dataclass(frozen=True, eq=False)
class PlottedLora:
    """A LoRA of a sweep, and the largest strength that it has in the plot."""

    sweep: Sweep
    number: int
    strength: float

    @property
    def name(self) -> str:
        return without_folders(self.sweep.name(self.number))

    def alone(self) -> Capsule:
        """A capsule that applies nothing but this LoRA."""
        return Capsule(self.sweep.alone(self.number), {strength_name(1): self.strength}, self.name, 0)


@dataclass(frozen=True)
class PlotReferences:
    """``loras``: all LoRAs of the plot. ``of_cell``: which of them (by position) a cell merges.

    The references themselves form a grid for sample_cells(): without LoRAs and then each LoRA alone along X, one row
    for each of the different sampling settings of the plot's cells.
    """

    loras: tuple[PlottedLora, ...]
    of_cell: dict[Place, tuple[int, ...]]
    samplings: tuple[Sampling, ...]

    @property
    def x(self) -> GridAxis:
        return GridAxis([None, *(lora.alone() for lora in self.loras)])

    @property
    def y(self) -> GridAxis:
        return GridAxis([None] * len(self.samplings))

    @property
    def cells(self) -> dict[Place, Sampling]:
        columns = range(len(self.loras) + 1)
        return {(column, row): sampling for row, sampling in enumerate(self.samplings) for column in columns}

    @property
    def names(self) -> list[str]:
        return distinct_labels([lora.sweep.name(lora.number) for lora in self.loras])


def references_of(x: GridAxis, y: GridAxis, plan: dict[Place, Sampling]) -> PlotReferences:
    """The references of a plot. LoRAs that are off, or have strength 0 in all of its cells, have no part in it."""
    strengths: dict[tuple[Sweep, int], set[float]] = {}
    in_cell: dict[Place, list[tuple[Sweep, int]]] = {}
    for place in plan:
        in_cell[place] = []
        for sweep, settings in merges_of(x.capsule(place[0]), y.capsule(place[1])):
            for number, strength in sweep.strengths(settings).items():
                strengths.setdefault((sweep, number), set()).add(strength)
                in_cell[place].append((sweep, number))
    used = (key for key, values in strengths.items() if any(values))
    shown = sorted((key for key in used if key[0].takes_part(key[1])), key=lambda key: key[1])
    # of two sweeps: all LoRAs of the first, then those of the second
    shown.sort(key=lambda key: [sweep for sweep, _ in strengths].index(key[0]))
    return PlotReferences(
        tuple(PlottedLora(sweep, number, _largest(strengths[sweep, number])) for sweep, number in shown),
        {place: tuple(shown.index(key) for key in keys if key in shown) for place, keys in in_cell.items()},
        tuple(dict.fromkeys(plan.values())),
    )


def check_given(pictures: int, loras: Sequence[str], of: str, otherwise: str) -> None:
    """Raises LoraError unless there are as many references without LoRAs as of each LoRA alone."""
    wanted = len(loras) + 1
    if pictures < wanted or pictures % wanted:
        raise LoraError(
            f"references has {pictures} picture{'s' * (pictures != 1)}; {of} needs {wanted}, or {wanted} times as many "
            f"as you have of each: first without LoRAs, then of each LoRA alone, in this order: {', '.join(loras)}. "
            f"{otherwise}"
        )


def require_strength(taking_part: Collection[object]) -> None:
    """Raises LoraError if none of the LoRAs that are connected takes part."""
    if not taking_part:
        raise LoraError("Every connected LoRA is switched off or at strength 0. Switch one on.")


def left_out(name: str) -> str:
    """Why a LoRA has no part in a search or a batch of references."""
    return f"{name} is switched off or at strength 0, and left out."


def split_given(pictures: Tensor, loras: int) -> list[Tensor]:
    """Given references (pictures, height, width, channels): those without LoRAs, then those of each LoRA alone."""
    return list(pictures[:, :, :, :3].cpu().split(len(pictures) // (loras + 1)))


def _largest(strengths: Collection[float]) -> float:
    """The largest strength; of negative ones alone, the most negative."""
    return max(strengths) if max(strengths) > 0 else min(strengths)
