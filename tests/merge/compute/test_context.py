"""Result dtype, progress, cancelling and running out of memory, for every operation of the core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute, attempt
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict, to_state_dict
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.numerics import blocking
from lora_pack.tests.support import oracle
from lora_pack.tests.support.faults import Fault, Stopped, points
from lora_pack.tests.support.makers import LINEAR, down_of, fingerprint, make_lora, of_modules, state_dict, up_of
from lora_pack.tests.support.merging import ALL_MODES, DENSE_MODES, merge, three_loras

OPERATIONS: dict[str, Callable[[Compute], Lora]] = {
    **{mode: lambda compute, mode=mode: merge(mode, three_loras("3x3"), compute=compute) for mode in ALL_MODES},
    "resize": lambda compute: resize(make_lora(1, ranks=[5]), 3, compute=compute),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dtype, within", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_the_result_is_cast_once_at_the_end(operation: str, dtype: torch.dtype, within: float):
    whole, half = (OPERATIONS[operation](Compute(dtype=d)) for d in (torch.float32, dtype))
    assert list(half.modules) == list(whole.modules)
    for name, module in half.modules.items():
        assert module.up.dtype == module.down.dtype == dtype
        assert torch.equal(up_of(module), up_of(whole.modules[name]).to(dtype))
        assert torch.equal(down_of(module), down_of(whole.modules[name]).to(dtype))
        assert module.alpha == whole.modules[name].alpha
        deltas = (oracle.module_delta(m) for m in (module, whole.modules[name]))
        assert oracle.distance(*deltas) < within


@pytest.mark.parametrize("operation", [*ALL_MODES, "resize"])
def test_results_too_large_for_their_precision_are_refused(operation: str):
    """An Inf would show in a picture, or not at all."""
    lora = make_lora(1, shapes={LINEAR: (14, 11)}, scale=1e6)
    half = Compute(dtype=torch.float16)
    with pytest.raises(LoraError, match=LINEAR):
        resize(lora, 3, compute=half) if operation == "resize" else merge(operation, [lora, lora], compute=half)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_progress_is_reported_after_each_module(operation: str):
    steps: list[tuple[int, int]] = []
    count = len(OPERATIONS[operation](Compute(progress=lambda *step: steps.append(step))).modules)
    assert [step for step in steps if step[0] > 0] == [(i, count) for i in range(1, count + 1)]


def assert_stops(work: Callable[[Callable[[], None]], object], least: int) -> None:
    """The first check that raises ends the work, and the exception is raised unchanged."""
    never = Fault()
    work(never)
    assert never.calls >= least
    for error in (Stopped, RuntimeError, KeyboardInterrupt):
        for n in points(never.calls):
            check = Fault(error, at=n)
            with pytest.raises(error):
                work(check)
            assert check.calls == n


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_stops_at_the_check_that_raises(operation: str):
    assert_stops(lambda check: OPERATIONS[operation](Compute(check=check)), least=2)


def test_reading_and_writing_a_state_dict_stop_at_the_check_that_raises():
    assert_stops(lambda check: from_state_dict(state_dict(make_lora(1)), "x", check=check), least=6)
    assert_stops(lambda check: to_state_dict(make_lora(1), check=check), least=6)


def test_loading_and_saving_a_file_stop_at_the_check_that_raises(tmp_path: Path):
    path = save(make_lora(1), tmp_path / "a.safetensors")
    assert_stops(lambda check: load(path, check=check), least=6)
    assert_stops(lambda check: save(make_lora(1), path, overwrite=True, check=check), least=6)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("mode", DENSE_MODES)
def test_the_check_is_called_often_within_a_large_delta(mode: str, monkeypatch: pytest.MonkeyPatch):
    """Not only between modules, because one delta can take seconds."""
    monkeypatch.setattr(blocking, "BLOCK_ELEMENTS", 400 * 20)
    loras = [make_lora(s, shapes={LINEAR: (300, 400)}) for s in (1, 2)]
    never = Fault()
    merge(mode, loras, 0.5, rank=8, compute=Compute(check=never))
    passes = 3 if mode in ("ties_svd", "magnitude_prune_svd") else 1  # a threshold for each, then the merge
    assert never.calls > 15 * passes  # the blocks of rows in a pass


def test_an_empty_lora_gives_an_empty_result():
    nothing = of_modules([])
    assert not resize(nothing, 4).modules
    assert not merge("ties_svd", [nothing]).modules


# Memory

GPU = Compute(device=torch.device("cuda"))
SHORTAGES = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
]


def failing(times: int, error: Exception, places: list[str]) -> Callable[[Compute], str]:
    """Work that fails in its first calls, and notes the device of each call."""

    def work(compute: Compute) -> str:
        places.append(compute.device.type)
        if len(places) <= times:
            raise error
        return "done"

    return work


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
def test_a_full_gpu_is_retried_once_before_the_cpu_takes_over(error: Exception, caplog: pytest.LogCaptureFixture):
    asked: list[int] = []
    gpu = replace(GPU, make_room=asked.append)
    for times, expected in enumerate((["cuda"], ["cuda", "cuda"], ["cuda", "cuda", "cpu"])):
        places: list[str] = []
        asked.clear()
        assert attempt(gpu, "module x", 1000, failing(times, error, places)) == "done"
        assert places == expected and asked == ([] if times == 0 else [2000])
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "module x does not fit into the memory of cuda: it is computed on the CPU."
    ]


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
@pytest.mark.parametrize("compute, tries", [(Compute(), 1), (GPU, 3)])
def test_running_out_of_main_memory_is_a_lora_error(error: Exception, compute: Compute, tries: int):
    places: list[str] = []
    with pytest.raises(LoraError, match=r"Not enough memory for module x, which takes 3 MB .*Close other programs"):
        attempt(compute, "module x", 3_000_000, failing(9, error, places))
    assert len(places) == tries


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), LoraError("bad"), ValueError("x"), Stopped()])
def test_other_errors_are_raised_unchanged(error: BaseException):
    def work(compute: Compute) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        attempt(GPU, "module x", 1000, work)
    assert raised.value is error


@pytest.mark.parametrize("operation", OPERATIONS)
def test_running_out_of_memory_names_the_module_and_leaves_nothing(operation: str):
    """Wherever memory is allocated: in the second product, concatenation or sum."""
    before = OPERATIONS[operation](Compute())
    for function in ("matmul", "cat", "sum"):
        short = Fault(RuntimeError("DefaultCPUAllocator: can't allocate memory"), at=2)
        with short.in_function(function):
            try:
                OPERATIONS[operation](Compute())
            except LoraError as error:
                assert short.calls == 2 and "Not enough memory for module" in str(error)
            else:
                assert short.calls < 2
    after = OPERATIONS[operation](Compute())
    assert fingerprint(after) == fingerprint(before)
