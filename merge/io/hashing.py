"""SHA-256, by which Civitai and others identify a file, computed in a second thread while the file is read."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from ..compute.context import CancelCheck

# Bytes hashed between two checks for cancelling.
HASH_BYTES = 2**20
# Seconds between two checks for cancelling while waiting for the hash.
WAIT_SECONDS = 0.05


class Sha256:
    """Hashes a file in a second thread: `with Sha256(path) as sha256: ...; sha256.result(check)`.

    Leaving the with statement stops the thread, finished or not.
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
        """The hash in hexadecimal. Raises OSError if the file couldn't be read."""
        self._thread.join(WAIT_SECONDS)
        while self._thread.is_alive():
            check()
            self._thread.join(WAIT_SECONDS)
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
