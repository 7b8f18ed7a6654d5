"""Measures LoRAs one by one and in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ..adapters.base import Lora
from ..compute.context import CPU, Compute
from ..compute.precision import full_precision
from ..compute.threads import threads
from ..errors import LoraError
from ..merging.key_resolver import ModelNames
from .loras import LoraMeter, LoraNumbers
from .pairs import PairNumbers, compare_weights, pair_numbers

# Matrices of up to this rank are measured with one thread.
SMALL_RANK = 128


@dataclass(frozen=True, eq=False)
class Inspection:
    """The numbers of some LoRAs, in the order given, and of each pair, a before b in that order."""

    loras: tuple[LoraNumbers, ...]
    pairs: tuple[PairNumbers, ...]


@full_precision()
def inspect(loras: Sequence[Lora], model: ModelNames | None = None, compute: Compute = CPU) -> Inspection:
    """Measure LoRAs with their strengths and block weights, on the CPU, holding the tensors of one module at a time.

    ``model`` are the names of the connected model, for names that the tables don't know. Only the progress and cancel
    callbacks of ``compute`` are used. Raises LoraError if there are no LoRAs.
    """
    if not loras:
        raise LoraError("There is no LoRA to look into.")
    couples = list(combinations(range(len(loras)), 2))
    steps = sum(len(lora.modules) for lora in loras)
    steps += sum(min(len(loras[i].modules), len(loras[j].modules)) for i, j in couples)
    done = 0

    def step() -> None:
        nonlocal done
        done = min(done + 1, steps)
        compute.step(done, steps)

    meters = [LoraMeter(lora, model, step) for lora in loras]
    with threads(1 if all(map(_is_small, loras)) else None):
        compared = [compare_weights(meters[i], meters[j], model, step) for i, j in couples]
        numbers = tuple(meter.finish() for meter in meters)
    pairs = (
        pair_numbers((i, j), (numbers[i], numbers[j]), weights)
        for (i, j), weights in zip(couples, compared, strict=True)
    )
    return Inspection(numbers, tuple(pairs))


def _is_small(lora: Lora) -> bool:
    return all(adapter.rank <= SMALL_RANK for adapter in lora.modules.values())
