"""How many threads torch computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use this many threads inside the context; None leaves it alone.

    Small matrices are faster with one: the others only wait for the next operation by spinning, and where another
    program needs their cores, each operation waits for a turn of the scheduler.
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)
