"""The device under test: is it there, what is it called, how long does work take on it and how much memory."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from types import ModuleType

import torch

KINDS = ("cuda", "xpu", "mps")


def first_device() -> str | None:
    """The kind of the first accelerator on this machine."""
    return next((kind for kind in KINDS if why_missing(kind) is None), None)


def why_missing(name: str) -> str | None:
    """A sentence on why a device can't be used on this machine; None if it can."""
    try:
        torch.ones(2, device=name).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return f"There is no device {name} for torch {torch.__version__} here: {str(error).splitlines()[0][:200]}"
    return None


class Gpu:
    """A device. Where torch can't measure or limit its memory, the checks that need that are skipped and say so."""

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())

    @property
    def _module(self) -> ModuleType | None:
        return getattr(torch, self.device.type, None)

    @property
    def name(self) -> str:
        if self.device.type in ("cuda", "xpu"):
            return getattr(torch, self.device.type).get_device_name(self.device)
        return f"{self.device.type} on {platform.machine()}, {platform.system()}"

    def wait(self) -> None:
        """Wait until the device has finished its queue."""
        if self.device.type in ("cuda", "xpu"):
            getattr(torch, self.device.type).synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    @property
    def can_measure_peak(self) -> bool:
        return self.device.type in ("cuda", "xpu")

    def peak(self, work: Callable[[], object]) -> int | None:
        """The most bytes that torch allocated on the device during the work, in addition to those before it."""
        if not self.can_measure_peak:
            work()
            return None
        module = getattr(torch, self.device.type)
        self.wait()
        module.empty_cache()
        module.reset_peak_memory_stats(self.device)
        before = module.memory_allocated(self.device)
        work()
        self.wait()
        return module.max_memory_allocated(self.device) - before

    @property
    def can_limit(self) -> bool:
        known = self.device.type != "mps" or hasattr(torch.mps, "recommended_max_memory")
        return known and hasattr(self._module, "set_per_process_memory_fraction")

    def limit(self, allowed: int | None) -> None:
        """Let torch allocate at most this many bytes on the device; None lifts the limit."""
        assert self._module is not None
        self.wait()
        self._module.empty_cache()
        fraction = 1.0 if allowed is None else allowed / self._total()
        if self.device.type == "mps":  # a fraction of the recommended size; takes no device
            self._module.set_per_process_memory_fraction(fraction)
        else:
            self._module.set_per_process_memory_fraction(fraction, self.device)

    def _total(self) -> int:
        if self.device.type == "mps":
            return torch.mps.recommended_max_memory()
        return getattr(torch, self.device.type).get_device_properties(self.device).total_memory
