"""The checks of tests/cuda on a stand-in: a good device passes, a faulty one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from lora_pack.merge.methods.mask_stream import MaskStream
from lora_pack.merge.numerics import conditioning
from lora_pack.tests.cuda import check, memory, results, speed
from lora_pack.tests.cuda.gpu import Gpu, why_missing
from lora_pack.tests.devices.limits import LIMITS
from lora_pack.tests.devices.stand_in import StandIn
from torch import Tensor

CUDA = LIMITS["cuda"].device
FEW = ["LoRA", "whole LoKr", "bias"]


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "SAMPLES", {name: results.SAMPLES[name] for name in FEW})


class FakeGpu(Gpu):
    """A GPU of the stand-in that runs out of memory as long as fewer than ``needed`` bytes are allowed."""

    needed = 2**26

    def __init__(self) -> None:
        self.device, self.allowed, self.taken = CUDA, 2**40, 0
        self.total = 2**40

    name = "a stand-in"
    can_limit = True

    def wait(self) -> None:
        pass

    def peak(self, work: Callable[[], object]) -> int | None:
        work()
        return 1000

    def limit(self, allowed: int | None) -> None:
        self.allowed = self.total if allowed is None else allowed

    @contextmanager
    def standing_in(self) -> Iterator[StandIn]:
        def before(operator: str) -> None:
            if self.allowed < self.needed:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

        with StandIn(LIMITS["cuda"], before) as device:
            yield device


@pytest.mark.parametrize(
    "operation", ["ties", "concat", "add_svd", "ties_svd", "dare_ties_svd at rank 4", "resize fixed"]
)
def test_a_good_device_passes(operation: str):
    with StandIn(LIMITS["cuda"]):
        found = results.compare(operation, CUDA)
    assert found.good, found


def test_a_device_that_multiplies_in_tf32_fails(monkeypatch: pytest.MonkeyPatch):
    """TF32 rounds the inputs of products to 10 bits."""

    def rounded(factor: Tensor) -> Tensor:
        mantissa, exponent = torch.frexp(factor.cpu())
        return torch.ldexp((mantissa * 2**11).round() / 2**11, exponent)

    original = conditioning.float32_factors

    def factors(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        up, down = original(up, down)
        if up.device.type == "cpu":
            return up, down
        return rounded(up).to(CUDA), rounded(down).to(CUDA)

    monkeypatch.setattr(conditioning, "float32_factors", factors)
    with StandIn(LIMITS["cuda"]):
        found = results.compare("ties_svd", CUDA)
    assert not found.good and found.distance > results.EXACT


def test_a_device_with_other_random_masks_fails(monkeypatch: pytest.MonkeyPatch):
    integers = MaskStream.integers
    calls = [0]

    def other(self: MaskStream, start: int, count: int):
        calls[0] += 1
        found = integers(self, start, count)
        if calls[0] == 1:  # the device runs first
            found = found[::-1].copy()
        return found

    monkeypatch.setattr(MaskStream, "integers", other)
    with StandIn(LIMITS["cuda"]):
        found = results.compare("dare_linear", CUDA)
    assert not found.good and found.flipped > 0


def test_a_device_that_leaves_modules_to_the_cpu_fails():
    lacking = LIMITS["cuda"].__class__(CUDA, lacks=frozenset({"masked_fill"}))
    with StandIn(lacking):
        found = results.compare("ties_svd", CUDA)
    assert not found.good and found.on_cpu > 0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    monkeypatch.setattr(memory, "ROWS", 120)
    monkeypatch.setattr(memory, "COLUMNS", 90)
    return FakeGpu()


def test_a_device_that_runs_out_of_memory_properly_passes(small: FakeGpu, monkeypatch: pytest.MonkeyPatch):
    original = torch.empty

    def empty(*shape, **options):
        """For the ballast, since a stand-in has no memory of its own to fill."""
        if options.get("dtype") == torch.uint8:
            small.allowed = 0
            return original(1)
        return original(*shape, **options)

    monkeypatch.setattr(torch, "empty", empty)
    with small.standing_in():
        found = memory.checks(small)
    assert [one.what for one in found][-2:] == ["a device that stays full", "a device whose memory is freed in time"]
    assert all(one.good for one in found), found
    assert "does not fit into the memory of cuda:0" in found[-2].seen


def test_a_device_whose_memory_limit_has_no_effect_fails(small: FakeGpu):
    small.needed = 0
    with small.standing_in():
        assert not memory.check_full(small).good


def test_taking_more_memory_than_was_asked_for_fails(small: FakeGpu, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeGpu, "peak", lambda self, work: (work(), 2**40)[1])
    with small.standing_in():
        assert not any(one.good for one in memory.check_peaks(small))


def test_every_operation_is_timed():
    modules = [("lora_unet_mid_block_attentions_0_proj_in", 24, 20, False), ("lora_unet_x", 30, 20, False)]
    gpu = FakeGpu()
    with gpu.standing_in():
        found = speed.times(gpu, 60.0, modules)
        dense = speed.dense_svd(gpu, 60.0, modules)
    assert [one.work for one in found] == list(speed.WORKS)
    assert all(0 < one.merging < one.load_to_save and one.sample == one.count == 2 for one in found)
    assert dense.seconds and dense.measured == dense.shapes == 2


def test_a_missing_device_is_reported(capsys: pytest.CaptureFixture[str]):
    assert why_missing("cpu") is None
    assert check.main(["--device", "xpu:77"]) == 1
    assert "There is no device xpu:77 for torch" in capsys.readouterr().out
