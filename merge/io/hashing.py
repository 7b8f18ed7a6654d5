"""SHA-256, by which Civitai and others know a file: computed in a thread beside the reading of it."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from ..compute.context import CancelCheck

# How much is hashed between two looks at whether to stop.
HASH_BYTES = 2**20
# Seconds between two looks at whether to stop while the hash is waited for.
LOOK_SECONDS = 0.05


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

    def result(self, check: CancelCheck) -> str:
        """The hash in hexadecimal. Raises OSError where the file could not be read."""
        self._thread.join(LOOK_SECONDS)
        while self._thread.is_alive():
            check()
            self._thread.join(LOOK_SECONDS)
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


def sha256_of(path: Path, check: CancelCheck) -> str:
    with Sha256(path) as sha256:
        return sha256.result(check)
