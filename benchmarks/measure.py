"""Clocks and memory gauges."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

# Runs repeat until they have taken ENOUGH_SECONDS in total, from MIN_RUNS to MAX_RUNS times: the median of three isn't
# affected by a single disturbed run. Anything longer than LONG_SECONDS runs once.
ENOUGH_SECONDS = 6.0
LONG_SECONDS = 40.0
MIN_RUNS, MAX_RUNS = 3, 7


def synchronise(device: str) -> None:
    """Wait until the device has finished its queued work."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(torch.device(device))
    elif kind == "mps":
        torch.mps.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def wants_another(times: list[float]) -> bool:
    """Whether another run is needed after runs of these durations."""
    if not times:
        return True
    if times[0] > LONG_SECONDS or len(times) >= MAX_RUNS:
        return False
    return len(times) < MIN_RUNS or sum(times) < ENOUGH_SECONDS


def median(times: list[float]) -> float:
    return statistics.median(times)


class Memory:
    """Peak memory since construction, less what was in use then: the CUDA device's, or else resident memory.

    On Linux this resets the kernel's high-water mark first. Elsewhere the mark covers the whole life of the process and
    is right only if nothing larger ran before, which is why every measurement has its own process.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        if self.on_device:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return
        if sys.platform == "linux":
            try:
                Path("/proc/self/clear_refs").write_text("5")
            except OSError:
                pass  # the kernel doesn't allow it: the mark covers the whole process
        self.before = psutil.Process().memory_info().rss

    @property
    def on_device(self) -> bool:
        return self.device.type == "cuda"

    def peak(self) -> int:
        if self.on_device:
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, _resident_peak() - self.before)


def _resident_peak() -> int:
    # not ru_maxrss on Linux, where it is inherited from the parent process
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
