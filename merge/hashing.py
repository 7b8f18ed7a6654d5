"""SHA-256, by which Civitai and others know a file: computed in a thread beside the reading or writing of it."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .compute import Check

# How much is hashed between two looks at whether to stop.
HASH_BYTES = 2**20
# Less than this is hashed sooner than a thread is told of it.
SMALL_BYTES = 2**15


class Sha256:
    """Hashes a file in a thread of its own: `with Sha256(path) as sha256: ...; sha256.result(check)`.

    Leaving the block ends the thread, whether it has finished or not.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._digest = path, hashlib.sha256()
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sha256:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def result(self, check: Check) -> str:
        """The hash in hexadecimal. Raises OSError where the file could not be read."""
        while self._thread.is_alive():
            check()
            self._thread.join(0.05)
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()

    def _run(self) -> None:
        try:
            with self._path.open("rb", buffering=0) as file:
                while not self._stop.is_set() and (block := file.read(HASH_BYTES)):
                    self._digest.update(block)
        except OSError as error:
            self._error = error


def sha256_of(path: Path, check: Check) -> str:
    with Sha256(path) as sha256:
        return sha256.result(check)


class RunningSha256:
    """Hashes blocks as they go by: `with RunningSha256() as digest: digest.update(block); ...; digest.hexdigest()`.

    ``update`` returns before the block is hashed, which must not change any more; one is kept at a time.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> RunningSha256:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown()

    def update(self, block: memoryview) -> None:
        self._wait()
        if len(block) < SMALL_BYTES:
            self._digest.update(block)
        else:
            self._last = self._thread.submit(self._digest.update, block)

    def hexdigest(self) -> str:
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()
            self._last = None
