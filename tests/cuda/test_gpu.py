"""The checks of check.py as tests, on the accelerator that TEST_DEVICE names or the first there is."""

from __future__ import annotations

import os

import pytest
from lora_pack.tests.cuda import memory, results
from lora_pack.tests.cuda.gpu import KINDS, Gpu, first_device, why_missing

pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    name = os.environ.get("TEST_DEVICE") or first_device()
    if name is None:
        pytest.skip(f"no accelerator here ({', '.join(KINDS)})")
    missing = why_missing(name)
    if missing:
        pytest.skip(missing)
    return Gpu(name)


@pytest.mark.parametrize("operation", results.OPERATIONS)
def test_the_gpu_agrees_with_the_cpu(gpu: Gpu, operation: str):
    found = results.compare(operation, gpu.device)
    assert found.good, found


def test_running_out_of_memory_and_peak_memory(gpu: Gpu):
    bad = [check for check in memory.checks(gpu) if not check.good]
    assert not bad
