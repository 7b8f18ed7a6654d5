"""SHA-256 in a thread beside the reading."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from lora_pack.merge.compute.context import no_cancel
from lora_pack.merge.io.hashing import HASH_BYTES, Sha256, sha256_of
from lora_pack.tests.support.faults import Fault, Stopped


@pytest.mark.parametrize("size", [0, 1, HASH_BYTES, 2 * HASH_BYTES + 7])
def test_sha256_equals_hashlibs(size: int, tmp_path: Path):
    data = bytes(range(251)) * (size // 251 + 1)
    path = tmp_path / "a"
    path.write_bytes(data[:size])
    assert sha256_of(path, no_cancel) == hashlib.sha256(data[:size]).hexdigest()


def test_waiting_for_the_hash_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a"
    path.write_bytes(bytes(64 * HASH_BYTES))  # a tenth of a second's work
    monkeypatch.setattr("lora_pack.merge.io.hashing.WAIT_SECONDS", 1e-4)

    before = threading.active_count()
    with pytest.raises(Stopped):
        sha256_of(path, Fault(Stopped, at=1))
    assert threading.active_count() == before, "its thread has ended"


def test_a_deleted_file_raises_when_the_hash_is_requested(tmp_path: Path):
    with Sha256(tmp_path / "none") as sha256, pytest.raises(FileNotFoundError):
        sha256.result(no_cancel)
