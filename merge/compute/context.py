"""Execution context: device, result dtype, progress and cancel callbacks, and the fallback when memory runs out."""

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

# The precisions of a result, by name.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Called often; raises an exception to stop the work.
CancelCheck = Callable[[], None]
# Called with how many of how many modules are done.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """No-op: progress is not shown."""


def no_report(kept: float, total: float) -> None:
    """No-op: nobody collects statistics."""


def no_free_memory(needed: int) -> None:
    """No-op: the host has nothing to free."""


def no_cancel() -> None:
    """No-op: never cancelled."""


@dataclass(frozen=True)
class Compute:
    """The execution context that every operation of the core takes.

    ``dtype`` is the precision of the result's tensors; arithmetic is always float32 or better.
    ``progress(done, total)`` is called after each module, ``check()`` often; it cancels by raising.
    ``report_truncation(kept, total)`` is called for each module truncated to a rank, with the squared norms of its
    delta after and before. ``make_room(bytes)`` asks the host to free device memory: it is called before the work, with
    the needs of the largest module, and again when the device runs out.
    """

    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    progress: Progress = no_progress
    check: CancelCheck = no_cancel
    report_truncation: Callable[[float, float], None] = no_report
    make_room: Callable[[int], None] = no_free_memory

    @property
    def float64_device(self) -> torch.device:
        """Where exact algebra runs: the device, or the CPU if the device lacks float64 or decompositions."""
        return devices.float64_device(self.device)

    def step(self, done: int, total: int) -> None:
        """Report progress, and stop if cancelled."""
        self.progress(done, total)
        self.check()


def attempt(compute: Compute, what: str, needed: int, work: Callable[[Compute], Result]) -> Result:
    """Run ``work`` on the device, or on the CPU (logged) if the device runs out of memory or lacks an operator.

    After the first out-of-memory error the host is asked to free memory, and the device is tried once more. ``needed``
    is the memory of the work in bytes. Raises LoraError, naming ``what``, if main memory runs out too.
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
        # outside the except clauses, where the error no longer keeps frames and their tensors alive
        if len(places) == 2:
            compute.make_room(2 * needed)
        elif places:
            log.warning("%s", reason)
    raise LoraError(
        f"Not enough memory for {what}, which takes {needed / 1e6:.0f} MB at a time. Close other programs, "
        "merge fewer LoRAs at once, or choose a mode that works on factors."
    )


CPU = Compute()
