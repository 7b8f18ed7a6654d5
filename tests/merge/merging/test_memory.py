"""Memory that a merge takes in addition to inputs and output: a few dense deltas at most, none in exact modes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.merging.resize import METHODS, resize
from lora_pack.tests.support.makers import CONV3, LINEAR, make_lora
from lora_pack.tests.support.merging import FACTOR_MODES, merge
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

ROOT = Path(__file__).resolve().parents[3]


class Largest(TorchDispatchMode):
    """Watches every tensor that torch creates; `elements` is the size of the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for value in tree_flatten(result)[0]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel(), value.untyped_storage().nbytes() // 8)
        return result


@contextmanager
def largest_tensor() -> Iterator[Largest]:
    with Largest() as seen:
        yield seen


SHAPES = {LINEAR: (200, 180), CONV3: (64, 40, 3, 3)}
SMALLEST_DELTA = 64 * 40 * 9


def two_loras() -> list[Lora]:
    return [make_lora(seed, shapes=SHAPES) for seed in (1, 2)]


EXACT: dict[str, Callable[[], object]] = {
    **{mode: lambda mode=mode: merge(mode, two_loras(), 0.5) for mode in FACTOR_MODES},
    "add_svd": lambda: merge("add_svd", two_loras(), rank=3, conv_rank=3),
    "add_svd of many": lambda: merge("add_svd", [*two_loras(), *two_loras()], rank=8, conv_rank=8),
    "one LoRA": lambda: merge("ties_svd", two_loras()[:1], 1.0, rank=3, conv_rank=3),
    **{
        method: lambda method=method: resize(
            two_loras()[0], 2, method=method, value=2.0 if method == "sv_ratio" else 0.9
        )
        for method in METHODS
    },
}


@pytest.mark.parametrize("work", EXACT.values(), ids=EXACT)
def test_exact_operations_never_form_a_delta(work: Callable[[], object]):
    with largest_tensor() as seen:
        work()
    assert seen.elements < SMALLEST_DELTA / 2


def test_an_exact_sum_of_very_many_loras_takes_no_more_than_their_delta():
    """Their stacked factors and Gram matrices would be larger."""
    loras = [make_lora(seed, shapes={LINEAR: (200, 180)}) for seed in range(100)]
    with largest_tensor() as seen:
        merge("add_svd", loras, rank=3, conv_rank=3)
    assert seen.elements <= 200 * 180


def test_the_watch_sees_a_dense_delta():
    with largest_tensor() as seen:
        merge("ties_svd", two_loras(), 0.5, rank=3, conv_rank=3)
    assert seen.elements >= 200 * 180


MEASURE = """
import json, sys, torch
from merge.adapters.base import Lora, LoraModule
from merge.merging.merge_deltas import merge_deltas
from merge.merging.merge_factors import merge_factors

mode, count, rows, columns, rank, modules = json.loads(sys.argv[1])

def lora(seed, rows, columns, modules):
    noise = torch.Generator().manual_seed(seed)
    return Lora(f"l{seed}", {f"lora_unet_{i}": LoraModule.of(f"lora_unet_{i}", torch.randn(rows, rank, generator=noise),
        torch.randn(rank, columns, generator=noise), float(rank)) for i in range(modules)})

def status(what):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(what + ":"))

def work(loras):
    merge = merge_deltas if mode.endswith("_svd") else merge_factors
    return merge(loras, mode, 0.3, **({"rank": rank} if mode.endswith("_svd") else {}))

work([lora(s, 160, 140, 1) for s in range(count)])  # libraries, threads and their buffers
inputs = [lora(s, rows, columns, modules) for s in range(count)]
before = status("VmRSS")
result = work(inputs)
output = sum(t.nbytes for m in result.modules.values() for t in m.factors())
print(status("VmHWM") - before - output)
"""


def peak(mode: str, loras: int, rows: int, columns: int, modules: int) -> int:
    """Peak memory in bytes of a merge, without its inputs and its output, in a process of its own."""
    arguments = json.dumps([mode, loras, rows, columns, 4, modules])
    command = [sys.executable, "-c", MEASURE, arguments]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("mode", "modules", "most"),
    [("add_svd", 3, 0.5), ("ties_svd", 2, 3.0), ("dare_linear_svd", 1, 3.0), ("magnitude_prune_svd", 1, 3.0)],
)
def test_the_peak_memory_of_a_merge_does_not_grow_with_the_loras(mode: str, modules: int, most: float):
    """Six LoRAs with deltas of 42 MB: at most three deltas are in memory, not one for each LoRA."""
    rows, columns = 4096, 2560
    assert peak(mode, 6, rows, columns, modules) / (rows * columns * 4) < most
