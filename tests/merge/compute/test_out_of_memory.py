"""Running out of memory at any point of an operation: the error, what it leaves behind, and the next run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.tests.support.faults import Fault, points
from lora_pack.tests.support.makers import fingerprint, make_lora, state_dict
from lora_pack.tests.support.merging import ALL_MODES, merge, three_loras

CPU_FULL = (
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
)
ERRORS = (
    lambda: MemoryError(),
    lambda: RuntimeError(CPU_FULL),
    # its name before torch 2.5
    lambda: getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)("CUDA out of memory."),
)
# How many of an operation's torch calls fail in turn, in addition to the first and last ones.
POINTS = 8

INPUTS = three_loras("3x3")
SETTINGS = {method: 2.0 if method == "sv_ratio" else 0.9 for method in METHODS}
OPERATIONS: dict[str, Callable[[], Lora]] = {
    **{mode: lambda mode=mode: merge(mode, INPUTS, 0.5, rank=3, conv_rank=3) for mode in ALL_MODES},
    **{f"resize {method}": lambda m=method: resize(INPUTS[0], 2, 2, m, SETTINGS[m]) for method in METHODS},
    "half": lambda: merge("ties_svd", INPUTS, 0.5, rank=3, conv_rank=3, compute=Compute(dtype=torch.float16)),
}


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Nothing from before these tests is looked at when garbage is collected and tensors are counted."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def tensors_alive() -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))


def assert_recovers(work: Callable[[], object], clean: Callable[[], object] = lambda: None) -> None:
    """After each failure `work` gives the same result and leaves no tensor; `clean` checks for other leftovers."""
    expected = work()
    never = Fault()
    with never.in_operators():
        assert work() == expected
    before = tensors_alive()
    count = never.calls
    assert count > 5
    for n in points(count, POINTS):
        error = ERRORS[n % len(ERRORS)]()
        with pytest.raises((type(error), LoraError)) as caught, Fault(error, at=n).in_operators():
            work()
        if caught.value is not error:
            assert "Not enough memory for module" in str(caught.value), caught.value
        del error, caught
        clean()
    assert work() == expected
    assert tensors_alive() <= before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_recovers(operation: str):
    inputs = [fingerprint(lora) for lora in INPUTS]
    assert_recovers(lambda: fingerprint(OPERATIONS[operation]()))
    assert [fingerprint(lora) for lora in INPUTS] == inputs


@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_loading_recovers(ending: str, tmp_path: Path):
    path = tmp_path / f"a{ending}"
    if ending == ".pt":
        torch.save(state_dict(make_lora(1)), path)
    else:
        save(make_lora(1), path)
    assert_recovers(lambda: fingerprint(load(path)))
    path.unlink()  # on Windows this fails for a file that is still open


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_saving_recovers(dtype: torch.dtype | None, tmp_path: Path):
    path, lora = tmp_path / "a.safetensors", make_lora(1)

    def work() -> bytes:
        return save(lora, path, dtype, overwrite=True).read_bytes()

    expected = work()

    def clean() -> None:
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
        assert path.read_bytes() == expected

    assert_recovers(work, clean)
