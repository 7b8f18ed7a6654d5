"""Work on blocks of memory in a thread of its own, in their order, while more of them are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

# Blocks are handed over this many bytes at a time at least: a hand-over costs as much as hashing some 50 kB.
HANDED_OVER = 2 * 2**20
# How many handed over may wait: they are kept in memory until then.
MOST_WAITING = 4


class BackgroundWriter:
    """`with Behind(work) as behind: behind(block); ...; behind.finish()` calls ``work(block)`` for each block.

    The call returns before the work is done; until then the block must not change. What ``work`` raises is raised by a
    later call, or by ``finish``. Leaving the block drops what has not begun.
    """

    def __init__(self, work: Callable[[memoryview], None]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1)
        self._gathered: list[memoryview] = []
        self._size = 0
        self._failed = False
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __call__(self, block: memoryview) -> None:
        self._gathered.append(block)
        self._size += block.nbytes
        if self._size >= HANDED_OVER:
            self._hand_over()

    def finish(self) -> None:
        """Wait for all work."""
        self._hand_over()
        while self._waiting:
            self._waiting.popleft().result()

    def _hand_over(self) -> None:
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._do, self._gathered))
        self._gathered, self._size = [], 0

    def _do(self, blocks: list[memoryview]) -> None:
        if self._failed:
            return  # what comes behind a gap is of no use
        try:
            for block in blocks:
                self._work(block)
        except BaseException:
            self._failed = True
            raise
