"""Merging and resizing on every kind of device: the CPU's results, no operator that the device lacks, and nothing moved
to the CPU except for exact algebra."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import pytest
import torch
from lora_pack.merge.adapters.base import Adapter, Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.lazy import LazyTensor
from lora_pack.merge.merging import dense_merge
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.tests.devices.limits import LIMITS, Limits
from lora_pack.tests.devices.stand_in import StandIn
from lora_pack.tests.support import oracle
from lora_pack.tests.support.families import DENSE, FAMILIES, VECTORS, WITH_FACTORS, as_dtype
from lora_pack.tests.support.faults import Fault, points
from lora_pack.tests.support.makers import LINEAR, down_of, fingerprint, make_lora, up_of
from lora_pack.tests.support.merging import ALL_MODES, merge
from torch import Tensor

# How far results may be apart between devices, relative to the delta: exact modes, and the others.
EXACT, OTHERS = 1e-6, 1e-3
# Types that some devices lack, and a strength for each.
INPUTS = {torch.float64: 0.8, torch.bfloat16: -0.7, torch.float8_e4m3fn: 1.3}

Operation = Callable[[list[Lora], Compute], Lora]
VALUES = {method: 3.0 if method == "sv_ratio" else 0.8 for method in METHODS}
OPERATIONS: dict[str, Operation] = {
    **{f"{mode}": lambda loras, compute, mode=mode: merge(mode, loras, 0.5, compute=compute) for mode in ALL_MODES},
    **{
        f"{mode}, rank 5": lambda loras, compute, mode=mode: merge(mode, loras, 0.5, 5, 5, compute=compute)
        for mode in ALL_MODES
        if mode.endswith("_svd")
    },
    **{
        f"resize {method}": lambda loras, compute, method=method: resize(
            loras[1], 3, 3, method, VALUES[method], compute
        )
        for method in METHODS
    },
}
FAMILIES_OF: dict[str, tuple[str, ...]] = {
    operation: tuple(WITH_FACTORS | VECTORS)
    if operation in ALL_MODES[:6] and operation != "concat"
    else tuple(FAMILIES)
    for operation in OPERATIONS
}


@cache
def inputs(family: str) -> list[Lora]:
    """One LoRA of the family in each type."""
    states = [as_dtype(FAMILIES[family](100 * number), dtype) for number, dtype in enumerate(INPUTS, 1)]
    found = [from_state_dict(state, f"lora{number}") for number, state in enumerate(states, 1)]
    return [one.with_strengths(strength, strength) for one, strength in zip(found, INPUTS.values(), strict=True)]


@cache
def on_cpu(operation: str, family: str) -> Lora:
    return OPERATIONS[operation](inputs(family), Compute())


@cache
def merged_on_cpu(mode: str, family: str) -> Lora:
    return merge(mode, inputs(family), 0.3)


@cache
def dense_delta_on_cpu(mode: str, family: str) -> Tensor:
    with noted_deltas() as merged:
        merge(mode, inputs(family), 0.3)
    (delta,) = merged
    return delta


@contextmanager
def noted_deltas() -> Iterator[list[Tensor]]:
    """Collects every merged delta before it is truncated, on the CPU."""
    merged: list[Tensor] = []
    original = dense_merge.merged_delta

    def noted(*arguments, **options):
        dense, total = original(*arguments, **options)
        merged.append(dense.cpu().clone())
        return dense, total

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_merge, "merged_delta", noted)
        yield merged


def assert_same(found: Mapping[str, Adapter], expected: Mapping[str, Adapter], within: float) -> None:
    assert list(found) == list(expected)
    for key, module in found.items():
        for _, tensor in module.tensors():
            assert isinstance(tensor, Tensor) is False or type(tensor) is Tensor and tensor.is_cpu
        here, there = (adapter.dense().double().numpy() for adapter in (expected[key], module))
        assert oracle.distance(there, here) <= within, key


@pytest.fixture(params=LIMITS)
def limits(request: pytest.FixtureRequest) -> Limits:
    return LIMITS[request.param]


def of_device(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Log records about where things were computed."""
    return [record for record in caplog.records if record.name.endswith((".context", ".devices"))]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_device_agrees_with_the_cpu(limits: Limits, operation: str, caplog: pytest.LogCaptureFixture):
    exact = operation in ("concat", "add_svd")
    for family in FAMILIES_OF[operation]:
        with StandIn(limits):
            found = OPERATIONS[operation](inputs(family), Compute(limits.device))
        try:
            assert_same(found.modules, on_cpu(operation, family).modules, EXACT if exact else OTHERS)
        except AssertionError as error:
            raise AssertionError(f"{family}: {error}") from error
    # no module fell back to the CPU
    assert [record.message for record in of_device(caplog) if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("mode", ["ties", "dare_linear", "dare_ties", "magnitude_prune"])
def test_masks_of_factors_are_the_same_on_every_device(limits: Limits, mode: str):
    for family in WITH_FACTORS | VECTORS:
        with StandIn(limits):
            found = merge(mode, inputs(family), 0.3, compute=Compute(limits.device))
        expected = merged_on_cpu(mode, family)
        for key, module in found.modules.items():
            other = expected.modules[key]
            pairs = (
                [(module.value.materialize(), other.value.materialize())]
                if family in VECTORS
                else [
                    (up_of(module), up_of(other)),
                    (down_of(module), down_of(other)),
                ]
            )
            for there, here in pairs:
                assert torch.equal(there != 0, here != 0), f"{family}: {key}"


@pytest.mark.parametrize("mode", ["ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"])
def test_masks_of_deltas_are_the_same_on_every_device(limits: Limits, mode: str):
    for family in WITH_FACTORS | DENSE:
        with noted_deltas() as merged, StandIn(limits):
            merge(mode, inputs(family), 0.3, compute=Compute(limits.device))
        (there,) = merged
        here = dense_delta_on_cpu(mode, family)
        assert torch.equal(there != 0, here != 0), family
        assert oracle.distance(there.double().numpy(), here.double().numpy()) <= EXACT, family


def test_ties_are_broken_the_same_way_on_every_device(limits: Limits):
    """Small whole numbers: half of all elements tie at the threshold."""
    loras = [make_lora(seed, shapes={LINEAR: (40, 30)}, ranks=[3], whole=True) for seed in (1, 2)]
    for mode in ("ties", "magnitude_prune", "ties_svd", "magnitude_prune_svd"):
        with StandIn(limits):
            found = merge(mode, loras, 0.4, compute=Compute(limits.device))
        expected = merge(mode, loras, 0.4)
        deltas = (oracle.module_delta(one.modules[LINEAR]) for one in (found, expected))
        assert oracle.distance(*deltas) < 1e-5, mode


def test_adapters_computed_from_the_model_merge_on_every_device(limits: Limits):
    """A change computed from the model's weight, such as DoRA, has no factors and is computed each time."""

    class Resolved(Adapter):
        family, name, block_weight, weight_shape, rank = "DoRA", LINEAR, 1.0, (60, 50), 50
        value = torch.randn(60, 50, generator=torch.Generator().manual_seed(0))

        def factors(self) -> None:
            return None

        def dense(self) -> Tensor:
            return self.value

        def tensors(self):
            yield ".diff", LazyTensor.of(self.value)

    loras = [Lora("resolved", {LINEAR: Resolved()}), make_lora(1, shapes={LINEAR: (60, 50)})]  # type: ignore[abstract]
    for mode in ("concat", "add_svd", "ties_svd", "dare_linear_svd"):
        with StandIn(limits):
            found = merge(mode, loras, 0.5, compute=Compute(limits.device))
        assert_same(found.modules, merge(mode, loras, 0.5).modules, OTHERS)
    with StandIn(limits):
        found = resize(loras[0], 4, compute=Compute(limits.device))
    assert_same(found.modules, resize(loras[0], 4).modules, OTHERS)


LARGE = (700, 500)


@pytest.mark.parametrize("mode", ["dare_linear_svd", "ties_svd"])
def test_a_dense_delta_stays_on_its_device(limits: Limits, mode: str):
    """Only what exact algebra needs is moved, a few columns, and the magnitudes where the threshold needs a sort."""
    loras = [make_lora(seed, shapes={LINEAR: LARGE}) for seed in (1, 2)]
    with StandIn(limits) as device:
        merge(mode, loras, 0.5, rank=4, compute=Compute(limits.device))
    floats = sum(count for dtype, count in device.moved if dtype.is_floating_point)
    sorted_on_cpu = mode == "ties_svd" and "bincount" not in device.calls
    assert floats < LARGE[0] * LARGE[1] * (len(loras) + 0.7 if sorted_on_cpu else 0.7)
    assert device.calls["mm"] > 4


@pytest.mark.parametrize("operation", ["add_svd", "resize fixed", "ties_svd"])
def test_exact_algebra_runs_on_the_device_where_it_can(limits: Limits, operation: str):
    with StandIn(limits) as device:
        OPERATIONS[operation](inputs("LoRA"), Compute(limits.device))
    able = limits.has_float64 and not limits.lacks & {"linalg_qr", "linalg_cholesky_ex", "linalg_solve_triangular"}
    used = {"linalg_qr", "linalg_cholesky_ex", "linalg_solve_triangular"} & set(device.calls)
    assert bool(used) == able


# --- failures on the device ---


@pytest.mark.parametrize(
    "operation", ["ties", "add_svd", "ties_svd, rank 5", "dare_linear_svd, rank 5", "resize sv_fro"]
)
@pytest.mark.parametrize("name", ["cuda", "mps", "xpu without float64"])
def test_a_module_is_retried_after_the_host_freed_memory(name: str, operation: str, caplog):
    limits, work = LIMITS[name], OPERATIONS[operation]
    never = Fault()
    with StandIn(limits, never):
        expected = work(inputs("LoRA"), Compute(limits.device))
    for number in points(never.calls):
        asked: list[int] = []
        error = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        with StandIn(limits, Fault(error, at=number)):
            found = work(inputs("LoRA"), Compute(limits.device, make_room=asked.append))
        assert_same(found.modules, expected.modules, 1e-6)
        assert len(asked) == 2, "before the work, and when the device ran out"
    assert not of_device(caplog)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_module_runs_on_the_cpu_if_the_device_stays_full(operation: str, caplog: pytest.LogCaptureFixture):
    limits = LIMITS["cuda"]
    for number in (1, 30):
        caplog.clear()
        error = RuntimeError("CUDA error: out of memory")
        full = Fault(error, at=number, lasting=True)
        with StandIn(limits, full):
            found = OPERATIONS[operation](inputs("LoRA"), Compute(limits.device))
        assert [("does not fit into the memory of cuda:0" in record.message) for record in of_device(caplog)] == (
            [True] if full.reached else []
        )
        if full.reached:
            assert fingerprint(found) == fingerprint(on_cpu(operation, "LoRA"))


@pytest.mark.parametrize("operator", ["mm", "masked_fill", "index", "linalg_vector_norm", "abs"])
def test_a_module_runs_on_the_cpu_if_the_device_lacks_an_operator(operator: str, caplog):
    """On a device that limits.py does not know."""
    limits = replace(LIMITS["cuda"], lacks=frozenset({operator}))
    with StandIn(limits):
        found = merge("ties_svd", inputs("LoRA"), 0.5, compute=Compute(limits.device))
    assert fingerprint(found) == fingerprint(on_cpu("ties_svd", "LoRA"))
    assert len(of_device(caplog)) == 1 and "cuda:0 can't compute module" in caplog.text and operator in caplog.text


def test_other_errors_of_a_device_are_raised_unchanged():
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with StandIn(LIMITS["cuda"], Fault(error, at=20)), pytest.raises(RuntimeError) as caught:
        merge("ties_svd", inputs("LoRA"), 0.5, compute=Compute(LIMITS["cuda"].device))
    assert caught.value is error


def test_the_host_is_asked_for_the_memory_of_all_deltas_at_once():
    """The deltas of inputs without factors are all on the device at the same time."""
    state = FAMILIES["full difference"]
    numbers = 84 * 72
    for count in (1, 2, 5):
        loras = [from_state_dict(state(seed), f"lora{seed}") for seed in range(count)]
        asked: list[int] = []
        with StandIn(LIMITS["cuda"]):
            merge("ties_svd", loras, 0.5, compute=Compute(LIMITS["cuda"].device, make_room=asked.append))
        assert len(asked) == 1 and 4 * numbers * (count + 3) <= asked[0] < 4 * numbers * (3 * count + 8)
    for work in (
        lambda compute: resize(loras[0], 4, compute=compute),
        lambda compute: merge("concat", loras, compute=compute),
    ):
        asked = []
        with StandIn(LIMITS["cuda"]):
            work(Compute(LIMITS["cuda"].device, make_room=asked.append))
        assert len(asked) == 1 and asked[0] >= 2 * 4 * numbers


def test_the_host_is_asked_for_the_memory_of_the_largest_module():
    with StandIn(LIMITS["cuda"]):
        for mode, least in (("ties_svd", 3 * 4 * 200 * 100), ("add_svd", 1)):
            asked: list[int] = []
            shapes = {LINEAR: (200, 100), "lora_unet_small": (20, 10)}
            compute = Compute(LIMITS["cuda"].device, make_room=asked.append)
            merge(mode, [make_lora(seed, shapes=shapes) for seed in (1, 2)], 0.5, compute=compute)
            assert len(asked) == 1 and least <= asked[0] < 20 * 4 * 200 * 100
