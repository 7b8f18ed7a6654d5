"""Full float32 precision in matrix products, whatever other node packs have set for the process.

TF32 keeps 10 bits of a product's inputs (NVIDIA, Intel), "medium" precision 7 bits (some CPUs too): too few for the
error bounds of a merge. torch has two sets of switches and raises an error if they disagree: allow_tf32 together with
set_float32_matmul_precision, and since 2.9 fp32_precision.
https://docs.pytorch.org/docs/stable/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_FULL = ("none", "ieee")

_lock = threading.Lock()
_holders = 0
_restore: Callable[[], None] | None = None


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch reduced precision off inside the context, and restore the switches afterwards.

    May be nested and used by several threads: the switches belong to the process, so the last one to leave restores
    them.
    """
    global _holders, _restore
    with _lock:
        _holders += 1
        restore = _raise_precision()
        _restore = _restore or restore  # keep what the first holder found
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _restore is not None:
                _restore()
                _restore = None


def _raise_precision() -> Callable[[], None] | None:
    """Switch to full precision and return what undoes it; None if nothing was reduced."""
    undo = [step for step in (_of_products(), _of_intel()) if step is not None]

    def undo_all() -> None:
        for step in undo:
            step()

    return undo_all if undo else None


def _of_products() -> Callable[[], None] | None:
    cuda: Any = torch.backends.cuda.matmul
    onednn = getattr(torch.backends.mkldnn, "matmul", None)
    if onednn is None or not hasattr(cuda, "fp32_precision"):  # before torch 2.9
        before = torch.get_float32_matmul_precision()
        if before == "highest":
            return None
        torch.set_float32_matmul_precision("highest")
        return lambda: torch.set_float32_matmul_precision(before)
    switches: list[tuple[Any, str, str]] = [
        (cuda, cuda.fp32_precision, getattr(torch.backends.cudnn, "fp32_precision", "none")),
        (onednn, onednn.fp32_precision, getattr(torch.backends.mkldnn, "fp32_precision", "none")),
    ]
    if all(value in _FULL for _, value, _ in switches):
        return None
    old = _old_switch(cuda.fp32_precision)
    torch.set_float32_matmul_precision("highest")  # sets both, so that they agree

    def undo() -> None:
        torch.set_float32_matmul_precision(old)
        for switch, value, above in switches:
            if switch.fp32_precision != value:
                # "none" follows the switch above, as it did before
                switch.fp32_precision = "none" if value == above else value

    return undo


def _old_switch(cuda: str) -> str:
    """torch.get_float32_matmul_precision, which raises an error where the two sets of switches disagree."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        pass
    try:
        allowed = torch.backends.cuda.matmul.allow_tf32
    except RuntimeError:  # raised if it disagrees with the new switch
        allowed = cuda != "tf32"
    return "high" if allowed else "highest"


def _of_intel() -> Callable[[], None] | None:
    if not getattr(torch.backends.mkldnn, "allow_tf32", False):
        return None
    torch.backends.mkldnn.allow_tf32 = False

    def undo() -> None:
        torch.backends.mkldnn.allow_tf32 = True

    return undo
