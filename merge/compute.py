"""How a computation runs: where, into which precision, who hears of its progress or stops it, and what when the memory
is not enough."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from .lora import LoraError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# The precisions that a result can have, by name.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Raises to stop the work.
Check = Callable[[], None]


# Hears how much of how much is done.
Progress = Callable[[int, int], None]


def unwatched(done: int, total: int) -> None:
    """The progress that nobody watches."""


def _no_report(kept: float, total: float) -> None:
    """Nobody asked."""


def _no_host(needed: int) -> None:
    """Nobody else has memory on the device that could be freed."""


def go_on() -> None:
    """Nobody stops it."""


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU where it has no float64 (Metal, DirectML)."""
    return torch.device("cpu") if device.type in ("mps", "privateuseone") else device


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
    progress: Progress = unwatched
    check: Check = go_on
    report_cut: Callable[[float, float], None] = _no_report
    make_room: Callable[[int], None] = _no_host

    @property
    def float64_device(self) -> torch.device:
        """Where exact low-rank algebra runs."""
        return float64_device(self.device)

    def step(self, done: int, total: int) -> None:
        """Report progress, and stop here if somebody asked for it."""
        self.progress(done, total)
        self.check()


def attempt(compute: Compute, what: str, needed: int, work: Callable[[Compute], Result]) -> Result:
    """``work`` on the device; where the device's memory is not enough for it, on the CPU, which the log says.

    Before it gives the device up it asks the host once more for room. Raises LoraError, naming ``what``, where
    the main memory is not enough either.
    """
    places = [compute] if compute.device.type == "cpu" else [compute, compute, replace(compute, device=CPU.device)]
    for number, place in enumerate(places):
        if 0 < number:
            if place is compute:
                compute.make_room(2 * needed)
            else:
                log.warning("%s does not fit into the memory of %s: it is computed on the CPU.", what, compute.device)
        try:
            return work(place)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # behind the except clause: the error's frames, and the tensors in them, are gone now
    raise LoraError(
        f"The memory is not enough for {what} ({needed / 1e6:.0f} MB are needed at a time). Close other programs, "
        "merge fewer LoRAs at once, or choose a mode that works on factors."
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or Python says that the memory of a device or the machine was not enough."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed"))


CPU = Compute()
