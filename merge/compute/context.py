"""How a computation runs: where, into which precision, who hears of its progress or stops it, and what when the memory
is not enough."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from ..errors import LoraError
from . import devices
from .devices import is_out_of_memory
from .precision import full_precision

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# The precisions that a result can have, by name.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Raises to stop the work.
CancelCheck = Callable[[], None]


# Hears how much of how much is done.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """The progress that nobody watches."""


def no_report(kept: float, total: float) -> None:
    """Nobody asked."""


def no_free_memory(needed: int) -> None:
    """Nobody else has memory on the device that could be freed."""


def no_cancel() -> None:
    """Nobody stops it."""


@dataclass(frozen=True)
class Compute:
    """The arguments that every operation of the core takes.

    ``dtype`` is the precision of the result's tensors; arithmetic is float32 or better whatever it says.
    ``progress(done, total)`` is called after each module. ``check()`` is called often and stops the work by raising.
    ``report_cut(kept, total)`` hears of each module that was cut to a rank: the squared norms of its delta after and
    before. ``make_room(bytes)`` is called before the device is worked on, with what the largest module will take there.
    """

    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    progress: Progress = no_progress
    check: CancelCheck = no_cancel
    report_truncation: Callable[[float, float], None] = no_report
    make_room: Callable[[int], None] = no_free_memory

    @property
    def float64_device(self) -> torch.device:
        """Where exact low-rank algebra runs: the device, or the CPU where it lacks what that takes."""
        return devices.float64_device(self.device)

    def step(self, done: int, total: int) -> None:
        """Report progress, and stop here if somebody asked for it."""
        self.progress(done, total)
        self.check()


def attempt(compute: Compute, what: str, needed: int, work: Callable[[Compute], Result]) -> Result:
    """Run ``work`` on the device, or on the CPU if the device runs out of memory or lacks an operator; the log says so.

    After the first out-of-memory error the host is asked for room and the device tried again. Raises LoraError, naming
    ``what``, if main memory runs out too.
    """
    on_cpu = replace(compute, device=CPU.device)
    places = [compute] if compute.device.type == "cpu" else [compute, compute, on_cpu]
    while places:
        place, *places = places
        try:
            with full_precision():
                return work(place)
        except NotImplementedError as error:
            if not places:
                raise
            places = [on_cpu]
            reason = f"{compute.device} can't compute {what}, so the CPU does: {str(error).splitlines()[0]}"
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = f"{what} does not fit into the memory of {compute.device}: it is computed on the CPU."
        # outside the except clauses, where the error no longer keeps its frames and their tensors alive
        if len(places) == 2:
            compute.make_room(2 * needed)
        elif places:
            log.warning("%s", reason)
    raise LoraError(
        f"The memory is not enough for {what} ({needed / 1e6:.0f} MB are needed at a time). Close other programs, "
        "merge fewer LoRAs at once, or choose a mode that works on factors."
    )


CPU = Compute()
