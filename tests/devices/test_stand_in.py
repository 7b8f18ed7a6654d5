"""The stand-in must refuse what the device refuses; otherwise the tests that run on it prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lora_pack.tests.devices.limits import LIMITS, Limits
from lora_pack.tests.devices.stand_in import OnDevice, ProcessEnds, StandIn
from torch import Tensor


@pytest.fixture(params=LIMITS)
def limits(request: pytest.FixtureRequest) -> Limits:
    return LIMITS[request.param]


def matrix(seed: int = 0) -> Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))


def test_a_moved_tensor_is_on_the_device_and_keeps_its_values(limits: Limits):
    with StandIn(limits):
        there = matrix().to(limits.device)
        assert isinstance(there, OnDevice) and there.device == limits.device and not there.is_cpu
        back = there.cpu()
        assert type(back) is Tensor and back.device.type == "cpu" and torch.equal(back, matrix())
        product = (there.mT @ there)[1:, :2]
        assert product.device == limits.device
        assert torch.equal(product.cpu(), (matrix().mT @ matrix())[1:, :2])
        for made in (torch.zeros(3, device=limits.device), there.new_empty(2), torch.zeros_like(there), there[0]):
            assert made.device == limits.device


def test_writing_in_place_and_through_views_changes_the_tensor(limits: Limits):
    with StandIn(limits):
        there = torch.zeros(3, 4, device=limits.device)
        assert there.add_(1) is there
        there[1:, :2] = 5.0
        there.view(-1)[0] = 7.0
        there[:, 3].copy_(torch.tensor([1.0, 2.0, 3.0]))
        assert there.cpu().tolist() == [[7, 1, 1, 1], [5, 5, 1, 2], [5, 5, 1, 3]]


MIXED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a sum": lambda here, there: here + there,
    "a product": lambda here, there: there @ here.mT,
    "in place": lambda here, there: here.mul_(there),
    "a comparison": lambda here, there: torch.equal(here, there),
    "side by side": lambda here, there: torch.cat([here, there]),
    "a scalar tensor": lambda here, there: there * torch.tensor(2.0),
    "out= on the CPU": lambda here, there: torch.abs(there, out=here),
    "out= on the device": lambda here, there: torch.abs(here, out=there),
    "an index": lambda here, there: there[here > 0],
    "a numpy mask": lambda here, there: there * torch.from_numpy(np.ones((5, 4), np.float32)),
    "torch.where": lambda here, there: torch.where(there > 0, there, here),
}


@pytest.mark.parametrize("case", MIXED)
def test_tensors_of_two_devices_are_refused(limits: Limits, case: str):
    with StandIn(limits), pytest.raises(RuntimeError, match="same device"):
        MIXED[case](matrix(), matrix().to(limits.device))


def test_numpy_and_other_devices_are_refused(limits: Limits):
    with StandIn(limits):
        there = matrix().to(limits.device)
        for use in (Tensor.numpy, np.asarray):
            with pytest.raises(TypeError, match="numpy"):
                use(there)
        for device in ("cuda:1", "meta", "xpu:3"):
            with pytest.raises(RuntimeError, match="no device"):
                there.to(device)
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, device=limits.device, generator=torch.Generator())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_types_that_the_device_lacks_are_refused(limits: Limits, dtype: torch.dtype):
    ways: dict[str, Callable[[], Tensor]] = {
        "moved": lambda: matrix().to(dtype).to(limits.device),
        "moved and converted": lambda: matrix().to(dtype).to(limits.device, torch.float32),
        "made": lambda: torch.ones(2, dtype=dtype, device=limits.device),
        "converted there": lambda: matrix().to(limits.device).to(dtype),
        "brought back and converted": lambda: matrix().to(limits.device).to("cpu", dtype),
        "copied": lambda: torch.zeros(5, 4, device=limits.device).copy_(matrix().to(dtype)),
    }
    with StandIn(limits):
        for name, way in ways.items():
            if dtype in limits.floats:
                way()
                continue
            with pytest.raises(ProcessEnds if dtype in limits.deadly else TypeError):
                pytest.fail(f"{name}: {way()}")


def test_operators_that_the_device_lacks_are_refused_inside_other_functions_too(limits: Limits):
    uses: dict[str, Callable[[Tensor], object]] = {
        "linalg_qr": torch.linalg.qr,
        "_linalg_svd": torch.linalg.svdvals,
        "_linalg_eigh": lambda there: torch.linalg.eigvalsh(there.mT @ there),
        "linalg_cholesky_ex": lambda there: torch.linalg.cholesky(there.mT @ there),
        "hardshrink": lambda there: torch.nn.functional.hardshrink(there, 0.5),
        "bincount": lambda there: torch.bincount(there.abs().to(torch.int32).view(-1)),
        "linalg_solve_triangular": lambda there: torch.linalg.solve_triangular(there[:4].triu(), there[:4], upper=True),
    }
    assert limits.lacks <= {*uses, "geqrf", "linalg_eigh"}
    with StandIn(limits):
        there = matrix().to(limits.device)
        for operator, use in uses.items():
            if operator in limits.lacks:
                with pytest.raises(NotImplementedError, match=operator):
                    use(there)
            else:
                use(there)
