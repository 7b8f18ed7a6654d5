"""How a computation runs: where, into which precision, and who hears of its progress or stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

# Raises to stop the work.
Check = Callable[[], None]


def _no_progress(done: int, total: int) -> None:
    """Nobody watches."""


def _no_report(kept: float, total: float) -> None:
    """Nobody asked."""


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
    before.
    """

    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    progress: Callable[[int, int], None] = _no_progress
    check: Check = go_on
    report_cut: Callable[[float, float], None] = _no_report

    @property
    def float64_device(self) -> torch.device:
        """Where exact low-rank algebra runs."""
        return float64_device(self.device)

    def step(self, done: int, total: int) -> None:
        """Report progress, and stop here if somebody asked for it."""
        self.progress(done, total)
        self.check()


CPU = Compute()
