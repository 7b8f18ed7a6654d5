"""Cancelling an operation at any point: it stops at once, leaves nothing behind, and the next run gives the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import CancelCheck, Compute
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.tests.merge.test_files import names
from lora_pack.tests.support.faults import Fault, Stopped
from lora_pack.tests.support.makers import LINEAR, TEXT, fingerprint, make_lora, state_dict
from lora_pack.tests.support.merging import ALL_MODES, merge, three_loras

INPUTS = three_loras("3x3")
SETTINGS = {method: 2.0 if method == "sv_ratio" else 0.9 for method in METHODS}

OPERATIONS: dict[str, Callable[[CancelCheck], Lora]] = {
    **{
        mode: lambda check, mode=mode: merge(mode, INPUTS, 0.5, rank=3, conv_rank=3, compute=Compute(check=check))
        for mode in ALL_MODES
    },
    **{
        f"resize {method}": lambda check, m=method: resize(INPUTS[0], 2, 2, m, SETTINGS[m], Compute(check=check))
        for method in METHODS
    },
}


def assert_stops_anywhere(work: Callable[[CancelCheck], object], after: Callable[[], object] = lambda: None) -> int:
    """Stop `work` at each of its calls of check in turn, and call `after` after each. Returns the number of calls."""
    never, again = Fault(), Fault()
    expected = work(never)
    for n in range(1, never.calls + 1):
        stop = Stopped("by the user")
        check = Fault(stop, at=n)
        with pytest.raises(Stopped) as caught:
            work(check)
        assert caught.value is stop
        assert check.calls == n, "check was called again after the stop"
        after()
    assert work(again) == expected
    assert again.calls == never.calls
    print(f"stopped at each of {never.calls} points")
    return never.calls


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_merge_or_resize_can_be_cancelled_anywhere(operation: str):
    inputs = [fingerprint(lora) for lora in INPUTS]
    total = assert_stops_anywhere(lambda check: fingerprint(OPERATIONS[operation](check)))
    assert total >= len(INPUTS[0].modules)
    assert [fingerprint(lora) for lora in INPUTS] == inputs


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_a_load_can_be_cancelled_anywhere(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # the number of checks while waiting for the hash depends on timing
    monkeypatch.setattr("lora_pack.merge.io.hashing.WAIT_SECONDS", 60)
    path, lora = tmp_path / f"a{ending}", make_lora(1)
    if ending == ".pt":
        torch.save(state_dict(lora), path)
    else:
        save(lora, path)
    before = path.read_bytes()
    total = assert_stops_anywhere(lambda check: fingerprint(load(path, check=check)))
    assert total >= len(lora.modules)
    assert names(tmp_path) == [path.name] and path.read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_save_can_be_cancelled_anywhere(overwrite: bool, tmp_path: Path):
    path, lora = tmp_path / "a.safetensors", make_lora(1, shapes={LINEAR: (14, 11), TEXT: (12, 8)})
    before, inputs = save(make_lora(2), path).read_bytes(), fingerprint(lora)
    new = tmp_path / ("a.safetensors" if overwrite else "a_00002.safetensors")

    def work(check: CancelCheck) -> bytes:
        written = save(lora, path, None, overwrite, check)
        assert written == new
        content = written.read_bytes()
        if overwrite:
            written.write_bytes(before)
        else:
            written.unlink()
        return content

    def after() -> None:
        assert names(tmp_path) == [path.name]
        assert path.read_bytes() == before

    assert assert_stops_anywhere(work, after) >= 2 * len(lora.modules)
    assert fingerprint(lora) == inputs


# How often check is called


class Pauses:
    """A cancel check that measures the longest CPU time of this thread between two of its calls.

    LAPACK calls don't count, because they can't be interrupted.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.longest, self.calls, self.last = 0.0, 0, time.thread_time()
        for name in ("qr", "svd", "eigh", "cholesky_ex", "solve_triangular"):
            monkeypatch.setattr(torch.linalg, name, self.uncounted(getattr(torch.linalg, name)))

    def uncounted(self, function: Callable) -> Callable:
        def call(*arguments, **options):
            start = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self.last += time.thread_time() - start

        return call

    def __call__(self) -> None:
        now = time.thread_time()
        self.longest, self.calls, self.last = max(self.longest, now - self.last), self.calls + 1, now


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ties_svd", "dare_ties_svd", "ties", "add_svd"])
def test_a_merge_of_a_large_module_calls_check_every_second(mode: str, monkeypatch: pytest.MonkeyPatch):
    loras = [make_lora(seed, shapes={LINEAR: (4096, 4096)}, ranks=[16]) for seed in (1, 2)]
    pauses = Pauses(monkeypatch)
    merge(mode, loras, 0.5, rank=16, compute=Compute(check=pauses))
    pauses()
    print(f"{mode}: {pauses.longest:.2f} s at most between {pauses.calls} calls")
    assert pauses.longest < 1


def test_loading_and_saving_a_large_file_call_check_every_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lora = make_lora(1, shapes={f"lora_unet_{n}": (4096, 4096) for n in range(8)}, ranks=[256])
    pauses = Pauses(monkeypatch)
    path = save(lora, tmp_path / "a.safetensors", check=pauses)
    pauses()
    assert path.stat().st_size > 64e6
    load(path, check=pauses)
    pauses()
    print(f"save, load: {pauses.longest:.2f} s at most between {pauses.calls} calls")
    assert pauses.longest < 1
