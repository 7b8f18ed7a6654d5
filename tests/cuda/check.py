"""Checks and measures the merge core on this machine's accelerator. Needs only torch, numpy and safetensors.

    python run.py test --device cuda          (or mps, xpu; cpu is a dry run)
    python tests/cuda/check.py --device cuda  (with a Python of your choice)

Compares every mode with the CPU's result, makes the device run out of memory, and measures time and memory on SDXL's
modules. Takes about three minutes. Exits with code 1 if a check fails.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    # as in the tests' conftest.py: the pack is called lora_pack, whatever its folder is called
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import conftest  # noqa: F401

import torch
from lora_pack.merge.compute.devices import float64_device
from lora_pack.tests.cuda import memory, results, speed
from lora_pack.tests.cuda.gpu import Gpu, first_device, why_missing

# Seconds for measuring times and dense SVDs; the rest of the four minutes is for the checks.
TIMES, DENSE_SVDS = 80.0, 50.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", help="cuda, cuda:1, xpu, mps, or cpu for a dry run (default: the first one found)")
    parser.add_argument("--modules", type=int, default=986, help="how many of SDXL's 986 modules to time")
    parser.add_argument("--only", choices=["results", "memory", "times"], help="run only this part")
    options = parser.parse_args(arguments)
    name = options.device or first_device()
    if name is None:
        print(f"There is no accelerator for torch {torch.__version__} here.")
        return 1
    missing = why_missing(name)
    if missing:
        print(missing)
        return 1
    # keeps the core's warnings about unknown names off the screen
    logging.getLogger("lora_pack").addHandler(logging.NullHandler())
    start = time.perf_counter()
    gpu = Gpu(name)
    where = "on the device" if float64_device(gpu.device) == gpu.device else "on the CPU"
    print(f"{gpu.name}, torch {torch.__version__}; exact algebra runs {where}\n")
    good = True
    if options.only in (None, "results"):
        good &= show_results(gpu)
    if options.only in (None, "memory"):
        good &= show_memory(gpu)
    if options.only in (None, "times"):
        show_times(gpu, options.modules)
    print(f"{'All checks passed' if good else 'SOME CHECKS FAILED'}, in {time.perf_counter() - start:.0f} s.")
    return 0 if good else 1


def show_results(gpu: Gpu) -> bool:
    print("| operation | distance to the CPU's result | allowed | error over the CPU's | mask elements that differ | |")
    print("|---|---|---|---|---|---|")
    good = True
    for operation in results.OPERATIONS:
        found = results.compare(operation, gpu.device)
        good &= found.good
        excess = f"{found.excess:.6f}" if found.excess else ""
        verdict = "" if found.good else f"WRONG ({found.worst})"
        verdict += f" {found.on_cpu} modules left to the CPU" if found.on_cpu else ""
        cells = f"{found.distance:.1e} | {found.allowed:.0e} | {excess} | {found.flipped:.1e} | {verdict}"
        print(f"| {operation} | {cells} |", flush=True)
    print()
    return good


def show_memory(gpu: Gpu) -> bool:
    print("| memory | | |\n|---|---|---|")
    found = memory.checks(gpu)
    for check in found:
        print(f"| {check.what} | {check.seen} | {'' if check.good else 'WRONG'} |", flush=True)
    print()
    return all(check.good for check in found)


def show_times(gpu: Gpu, count: int) -> None:
    modules = speed.spread(speed.sdxl_modules(), count)
    dense_svd = speed.dense_svd(gpu, DENSE_SVDS, modules)
    print(f"Two LoRAs of rank {speed.RANK} in float16, {len(modules)} modules of SDXL.\n")
    print("| work | load to save | merging alone | memory of the device | dense SVDs alone | |")
    print("|---|---|---|---|---|---|")
    for one in speed.times(gpu, TIMES, modules):
        peak = "" if one.peak is None else f"{one.peak / 1e6:.0f} MB"
        dense = f"{dense_svd.seconds:.0f} s" if dense_svd.seconds is not None and one.work != "concat" else ""
        note = "" if one.sample == one.count else f"extrapolated from {one.sample} modules"
        print(
            f"| {one.work} | {one.load_to_save:.1f} s | {one.merging:.1f} s | {peak} | {dense} | {note} |", flush=True
        )
    if dense_svd.seconds is None:
        print(f"\nDense SVDs: not measured ({dense_svd.why}).")
    else:
        print(f"\nDense SVDs: {dense_svd.measured} of {dense_svd.shapes} shapes were measured once and multiplied by")
        print("their count in the model. Larger shapes are extrapolated by their number of operations.")
    print()


if __name__ == "__main__":
    sys.exit(main())
