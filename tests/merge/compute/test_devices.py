"""What the core assumes about devices: where exact algebra runs, what is converted, which errors mean out of memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lora_pack.merge.compute import devices
from lora_pack.merge.compute.devices import (
    float64_device,
    in_float64,
    is_out_of_memory,
    on_cpu,
    on_device,
    orthonormal,
    with_index,
)
from lora_pack.merge.numerics.blocking import squared_norm
from lora_pack.tests.devices.limits import FLOATS, LIMITS, Limits
from lora_pack.tests.devices.stand_in import StandIn
from torch import Tensor

CPU = torch.device("cpu")


@pytest.fixture(params=LIMITS)
def limits(request: pytest.FixtureRequest) -> Limits:
    return LIMITS[request.param]


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_a_device_without_index_gets_that_of_the_current_device(kind: str, monkeypatch: pytest.MonkeyPatch):
    """torch.device("cuda") is not equal to "cuda:0", so ComfyUI would free nothing for it."""
    monkeypatch.setattr(torch, kind, SimpleNamespace(current_device=lambda: 2))
    assert with_index(torch.device(kind)) == torch.device(kind, 2)
    assert with_index(torch.device(kind, 1)) == torch.device(kind, 1)
    for other in ("cpu", "mps", "meta"):
        assert with_index(torch.device(other)) == torch.device(other)


def test_exact_algebra_runs_on_devices_that_can_do_it(limits: Limits):
    able = limits.has_float64 and not limits.lacks & {"linalg_qr", "linalg_cholesky_ex", "linalg_solve_triangular"}
    with StandIn(limits):
        assert float64_device(limits.device) == (limits.device if able else CPU)
        there = on_device(numbers(5, 3), limits.device)
        doubled = in_float64(there)
        assert doubled.dtype == torch.float64 and doubled.device == (limits.device if able else CPU)
        assert torch.equal(doubled.cpu(), numbers(5, 3).double())
        basis = orthonormal(there)
        assert basis.device == limits.device
        assert torch.allclose((basis.mT @ basis).cpu(), torch.eye(3), atol=1e-6)
    assert float64_device(CPU) == CPU


def test_a_device_is_probed_once():
    with StandIn(LIMITS["xpu without QR"]) as device:
        for _ in range(3):
            float64_device(torch.device("xpu", 0))
    assert device.calls["mm"] == 1


def test_a_device_that_computes_float64_in_float32_fails_the_probe(monkeypatch: pytest.MonkeyPatch):
    """As DirectML did: github.com/microsoft/DirectML/issues/398."""
    qr = torch.linalg.qr

    def rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
        q, r = qr(matrix)
        return q.float().double(), r

    with StandIn(LIMITS["cuda"]):
        assert float64_device(torch.device("cuda", 0)) != CPU
    monkeypatch.setattr(torch.linalg, "qr", rounded)
    with StandIn(LIMITS["cuda"]):
        assert float64_device(torch.device("cuda", 0)) == CPU


def test_a_device_that_was_full_is_probed_again():
    full = [True]

    def before(operator: str) -> None:
        if full[0]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with StandIn(LIMITS["cuda"], before):
        with pytest.raises(torch.cuda.OutOfMemoryError):
            float64_device(torch.device("cuda", 0))
        full[0] = False
        assert float64_device(torch.device("cuda", 0)) == torch.device("cuda", 0)


def test_probing_a_missing_device_raises_torch_s_error():
    with StandIn(LIMITS["cuda"]), pytest.raises(RuntimeError, match="no device"):
        float64_device(torch.device("xpu", 3))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_type_that_a_device_lacks_is_converted_before_it_is_moved(limits: Limits, dtype: torch.dtype):
    with StandIn(limits):
        there = on_device(numbers(5, 3).to(dtype), limits.device)
        assert there.device == limits.device
        assert there.dtype in (dtype, torch.float32)
        if limits.device.type == "cuda":
            assert there.dtype == dtype, "fewer bytes to move"
        assert torch.equal(there.float().cpu(), numbers(5, 3).to(dtype).float())
        assert torch.equal(on_cpu(there.float(), dtype), numbers(5, 3).to(dtype))


def test_a_norm_is_accurate_without_float64(limits: Limits):
    for scale in (1.0, 1e-30, 1e30, 3e37):
        block = numbers(40, 3000) * scale
        expected = float(block.double().square().sum())
        with StandIn(limits):
            assert squared_norm(block.to(limits.device)) == pytest.approx(expected, rel=1e-7)
    with StandIn(limits):
        assert squared_norm(torch.zeros(3, 4).to(limits.device)) == 0.0
        for bad in (torch.inf, -torch.inf, torch.nan):
            block = torch.ones(3, 4)
            block[1, 2] = bad
            assert not squared_norm(block.to(limits.device)) < torch.inf


MEMORY = [
    "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "XPU out of memory. Tried to allocate 2.00 GiB.",
    "MPS backend out of memory (MPS allocated: 1 GB).",
    "Invalid buffer size: 24.00 GB",
    "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5 (PI_ERROR_OUT_OF_RESOURCES)",
    "Could not allocate tensor with 8589934592 bytes. There is not enough GPU video memory available!",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "NPU out of memory. Tried to allocate 2.00 GiB.",
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",
]
OTHERS = [
    "CUDA error: an illegal memory access was encountered",
    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    "The operator 'aten::linalg_qr.out' is not currently implemented for the MPS device.",
    "linalg.eigh: The algorithm failed to converge",
]


def test_out_of_memory_is_recognised_by_its_message():
    for text in MEMORY:
        assert is_out_of_memory(RuntimeError(text)), text
    for text in OTHERS:
        assert not is_out_of_memory(RuntimeError(text)), text
    assert is_out_of_memory(MemoryError())


def test_the_probe_uses_every_operator_of_exact_algebra():
    """Each operator that numerics/ runs on float64_device and that a device may lack, one at a time."""
    for operator in ("linalg_qr", "linalg_cholesky_ex", "linalg_solve_triangular", "mm"):
        with StandIn(replace(LIMITS["cuda"], lacks=frozenset({operator}))):
            assert float64_device(torch.device("cuda", 0)) == CPU, operator


def test_devices_py_agrees_with_the_table_of_limits():
    """What devices.py takes for granted about a device must be allowed by limits.py."""
    for limits in LIMITS.values():
        kind = limits.device.type
        stored = devices._STORED.get(kind, devices._STORED_EVERYWHERE)
        assert kind == "cuda" or stored <= limits.floats
        assert (kind in devices._WITHOUT_FLOAT64) <= (not limits.has_float64)
        assert (kind in devices._FAST_BINCOUNT) <= ("bincount" not in limits.lacks)
