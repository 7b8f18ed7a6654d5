"""Times on the modules of SDXL, from loading two files to the saved result, and of dense SVDs for comparison."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.files import load, save
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.merging.resize import resize
from lora_pack.tests.cuda.gpu import Gpu

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.shapes import sdxl_modules, spread
    from tools.make_lora import Module, write_lora
finally:
    sys.path.remove(str(ROOT))

RANK, NEW_RANK = 32, 16
STRENGTHS = (0.8, 0.6)

WORKS: dict[str, Callable[[list[Lora], Compute], Lora]] = {
    "concat": lambda loras, compute: merge_factors(loras, "concat", compute=compute),
    "add_svd": lambda loras, compute: merge_deltas(loras, "add_svd", 1.0, RANK, compute=compute),
    "resize": lambda loras, compute: resize(loras[0], NEW_RANK, compute=compute),
    "ties_svd": lambda loras, compute: merge_deltas(loras, "ties_svd", 0.5, RANK, compute=compute),
}


@dataclass
class Time:
    """Seconds for all ``count`` modules, of which ``sample`` were measured."""

    work: str
    load_to_save: float
    merging: float
    peak: int | None
    sample: int
    count: int


@dataclass
class DenseSvd:
    """Seconds of full SVDs of all dense deltas, from one SVD for each of ``measured`` of the ``shapes``."""

    seconds: float | None
    measured: int
    shapes: int
    why: str = ""


def times(gpu: Gpu, budget: float, modules: Sequence[Module] | None = None) -> list[Time]:
    """Times every operation on all modules, or on as many as its share of the budget (seconds) allows."""
    modules = sdxl_modules() if modules is None else modules
    found = []
    with tempfile.TemporaryDirectory() as folder:
        few = _files(Path(folder), spread(modules, 24))
        whole = _files(Path(folder), modules)
        for work in WORKS:
            _run(gpu, work, few, Path(folder))  # warms up
            time_of_few, _, _ = _run(gpu, work, few, Path(folder))
            share = budget / len(WORKS) / max(1e-9, time_of_few * len(modules) / len(spread(modules, 24)))
            sample = modules if share >= 1 else spread(modules, max(24, int(share * len(modules))))
            files = whole if share >= 1 else _files(Path(folder), sample)
            seconds, merging, peak = _run(gpu, work, files, Path(folder))
            scale = len(modules) / len(sample)
            found.append(Time(work, seconds * scale, merging * scale, peak, len(sample), len(modules)))
    return found


def _files(folder: Path, modules: Sequence[Module]) -> list[Path]:
    paths = [folder / f"{len(modules)}-{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        write_lora(path, RANK, seed=seed, alpha=RANK / 2, modules=modules)
    return paths


def _run(gpu: Gpu, work: str, files: list[Path], folder: Path) -> tuple[float, float, int | None]:
    """Seconds from loading to saving, seconds of the merge alone, and the peak memory of the device."""
    merging: list[float] = []

    def load_to_save() -> None:
        loras = [load(path).with_strengths(one, one) for path, one in zip(files, STRENGTHS, strict=True)]
        made: list[Lora] = []
        merging.append(gpu.seconds(lambda: made.append(WORKS[work](loras, Compute(gpu.device)))))
        save(made[0], folder / "out.safetensors", torch.float16, overwrite=True)

    total: list[float] = []
    peak = gpu.peak(lambda: total.append(gpu.seconds(load_to_save)))
    return total[0], merging[0], peak


def dense_svd(gpu: Gpu, budget: float, modules: Sequence[Module] | None = None) -> DenseSvd:
    """A full SVD of every delta, in float32 on the device: what a merge has to do that doesn't use the factors."""
    counts = Counter((rows, columns) for _, rows, columns, _ in (sdxl_modules() if modules is None else modules))
    shapes = sorted(counts, key=lambda shape: shape[0] * shape[1] * min(shape))
    start, measured, steps = time.perf_counter(), [], []
    for rows, columns in shapes:
        if measured and time.perf_counter() - start > budget:
            break
        delta = torch.randn(rows, columns).to(gpu.device)
        try:
            if not measured:
                torch.linalg.svd(delta, full_matrices=False)  # warms up
            seconds = gpu.seconds(lambda delta=delta: torch.linalg.svd(delta, full_matrices=False))
        except (NotImplementedError, RuntimeError) as error:
            return DenseSvd(None, 0, len(shapes), str(error).splitlines()[0])
        measured.append(seconds * counts[rows, columns])
        steps.append(rows * columns * min(rows, columns) * counts[rows, columns])
    missing = sum(
        rows * columns * min(rows, columns) * counts[rows, columns] for rows, columns in shapes[len(measured) :]
    )
    # shapes that were not measured: at the same time per operation
    return DenseSvd(sum(measured) * (1 + missing / sum(steps)), len(measured), len(shapes))
