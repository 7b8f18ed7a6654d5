"""Processing blocks of memory in a second thread, in order, while the caller prepares the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

# Least number of bytes passed to the thread at once: passing them costs as much as hashing about 50 kB.
BATCH_BYTES = 2 * 2**20
# How many batches may wait in memory.
MAX_WAITING = 4


class BackgroundWriter:
    """`with BackgroundWriter(work) as writer: writer(block); ...; writer.finish()` calls ``work`` on each block.

    A call returns before the work is done; a block must not change until then. Errors of ``work`` are raised by a later
    call or by ``finish``. Leaving the with statement drops all work that hasn't started.
    """

    def __init__(self, work: Callable[[memoryview], None]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1)
        self._batch: list[memoryview] = []
        self._size = 0
        self._failed = False
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __call__(self, block: memoryview) -> None:
        self._batch.append(block)
        self._size += block.nbytes
        if self._size >= BATCH_BYTES:
            self._pass_on()

    def finish(self) -> None:
        """Wait until all work is done."""
        self._pass_on()
        while self._waiting:
            self._waiting.popleft().result()

    def _pass_on(self) -> None:
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._do, self._batch))
        self._batch, self._size = [], 0

    def _do(self, blocks: list[memoryview]) -> None:
        if self._failed:
            return  # the rest is useless after a gap
        try:
            for block in blocks:
                self._work(block)
        except BaseException:
            self._failed = True
            raise
