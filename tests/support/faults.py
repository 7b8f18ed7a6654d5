"""Fault injection: raise an error, or do something else, at the n-th call of one kind.

    fault = Fault(Stopped, at=3)
    merge(..., compute=Compute(check=fault))          at the third check
    with fault.in_operators(): ...                    at the third operator that torch runs
    with fault.in_function("matmul"): ...             at the third torch.matmul, tensor.matmul or @
    with StandIn(limits, fault): ...                  at the third operator on a stand-in for a device
    fault.in_file_calls()                             at the third open, flush, link, rename or removal of a file
    monkeypatch.setattr(os, "link", fault)            at the third call of any function, which it replaces

Without ``at`` it only counts, so a first run shows how many points there are; ``points`` picks some of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class Stopped(BaseException):
    """The user's stop. As in the newest ComfyUI it is not an Exception, so nothing may catch it by accident."""


class Fault:
    """Counts its calls in ``calls``; at call number ``at`` raises an error or calls a function, then goes on counting.

    ``lasting``: at every later call too.
    """

    def __init__(
        self,
        fault: BaseException | type[BaseException] | Callable[[], object] = Stopped,
        at: int = 0,
        *,
        lasting: bool = False,
    ) -> None:
        self.fault, self.at, self.lasting, self.calls = fault, at, lasting, 0

    @property
    def reached(self) -> bool:
        return 0 < self.at <= self.calls

    def __call__(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls == self.at or (self.lasting and self.reached):
            if isinstance(self.fault, BaseException):
                raise self.fault
            if isinstance(self.fault, type) and issubclass(self.fault, BaseException):
                raise self.fault()
            self.fault()

    def in_operators(self) -> TorchDispatchMode:
        """Called before each operator that torch runs, those inside its own functions too."""
        return _Operators(self)

    def in_function(self, name: str) -> TorchFunctionMode:
        """Called before each call of one function of torch, by any of its names."""
        return _Function(self, name)

    def in_file_calls(self) -> None:
        """Called before whatever this process does to files. For good: use it in a process that is about to end."""
        sys.addaudithook(lambda event, _: self() if event in FILE_EVENTS else None)
        sync = os.fsync
        os.fsync = lambda fd: (self(), sync(fd))[1]  # type: ignore[assignment]


FILE_EVENTS = {"open", "os.link", "os.rename", "os.remove"}


def points(count: int, between: int = 1) -> list[int]:
    """Calls to fail at, from 1: the first three and last two of ``count``, and some evenly spread ones in between."""
    spread = range(1, count, max(1, count // (between + 1)))
    return sorted(n for n in {1, 2, 3, *spread, count - 1, count} if 1 <= n <= count)


# Stands in for os.link where a file system has no hard links: FAT, some network shares.
no_hard_links = Fault(OSError("this file system has no hard links"), at=1, lasting=True)


class _Operators(TorchDispatchMode):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.fault()
        return function(*arguments, **(options or {}))


class _Function(TorchFunctionMode):
    def __init__(self, fault: Fault, name: str) -> None:
        super().__init__()
        self.fault, self.names = fault, (name, f"__{name}__")

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if getattr(function, "__name__", "") in self.names:
            self.fault()
        return function(*arguments, **(options or {}))
