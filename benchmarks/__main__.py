"""python -m benchmarks compares with other tools; python -m benchmarks scaling measures growth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import machine, peers, report, scaling
from .inputs import generate, modules_of, warm_file_cache
from .shapes import ARCHITECTURES
from .table import ROOT, compare, in_own_process, jobs
from .works import WORKS, Setting

DTYPES = ("float32", "float16", "bfloat16")
# Default works for scaling: sums, a resize, and a mode both on factors and on dense deltas.
SCALING_WORKS = ("add_svd", "concat", "resize", "ties", "ties_svd")

COMPARE = "Merge the same LoRAs with this pack and with other tools: time, memory, accuracy. See docs/benchmarks.md."
SCALE = "Measure how time and memory grow with the rank, the number of LoRAs and the number of modules."


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    scales = list(arguments[:1]) == ["scaling"]
    options = _parser(scales).parse_args(arguments[1:] if scales else arguments)
    setting = Setting(options.rank, options.density, options.seed, options.device, options.save_dtype)
    try:
        torch.empty(1, device=options.device)  # fails early if there is no such device
        for path in _scaling(options, setting) if scales else _table(options, setting):
            print(path)
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(scales: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python run.py bench scaling" if scales else "python run.py bench",
        description=SCALE if scales else COMPARE,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--arch", choices=ARCHITECTURES, default="sdxl", help="the model to generate LoRAs for")
    add("--rank", type=int, default=32, help="rank of the LoRAs and of truncated results")
    add("--count", type=int, default=2, help="number of LoRAs")
    add("--modules", type=int, default=100 if scales else 0, help="use only this many of the model's modules; 0: all")
    add("--dtype", choices=DTYPES, default="float16", help="precision of the LoRAs")
    add("--save-dtype", choices=DTYPES, default="float32", help="precision of the results")
    add("--density", type=float, default=0.5, help="density of the modes that have one")
    add("--seed", type=int, default=0, help="seed of the dare modes")
    add("--device", default="cpu", help="where to compute: cpu, cuda")
    add("--threads", type=int, default=0, help="CPU threads; 0: torch's default")
    add("--works", type=_names(WORKS), default=",".join(SCALING_WORKS if scales else WORKS), help=", ".join(WORKS))
    add(
        "--peers",
        type=_names(peers.PEERS),
        default="none" if scales else ",".join(peers.PEERS),
        help=", ".join(peers.PEERS),
    )
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for tables and charts")
    add("--cache", type=Path, default=ROOT / ".demo" / "benchmarks", help="folder for generated LoRAs")
    if scales:
        add("--ranks", type=_numbers, default=scaling.RANKS, help="values of the first axis")
        add("--counts", type=_numbers, default=scaling.COUNTS, help="numbers of LoRAs, values of the second axis")
        add("--module-counts", type=_numbers, default=(), help="values of the third axis; default: up to all")
    else:
        add("files", type=Path, nargs="*", help="LoRAs to merge instead of generated ones")
        add("--new-rank", type=int, default=0, help="rank of the resize; 0: half of --rank")
        add("--full", action="store_true", help="run slow tools on all modules too; takes hours")
    return parser


def _names(known: Sequence[str] | dict[str, object] | dict):
    def names(text: str) -> list[str]:
        wanted = [name.strip() for name in text.split(",") if name.strip() and name.strip() != "none"]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}")
        return wanted

    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _table(options: argparse.Namespace, setting: Setting) -> list[Path]:
    if options.files:
        files = [path.absolute() for path in options.files]
        name = "files"
    else:
        files = generate(
            *(options.cache, options.arch, options.rank, options.count, options.dtype), modules=options.modules
        )
        name = f"{options.arch}-rank-{options.rank}"
    warm_file_cache(files)
    modules = modules_of([load_file(file) for file in files])
    if not modules:
        raise ValueError("The files contain no LoRA weights.")
    ranks = [term.up.shape[1] for module in modules for term in module.terms]
    title = (
        f"{len(files)} {'LoRAs' if options.files else options.arch + ' LoRAs'} of rank {_range(ranks)}, "
        f"{len(modules)} modules, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB in total; "
        f"results in {options.save_dtype}, density {options.density:g}"
    )
    new_rank = options.new_rank or max(1, options.rank // 2)
    todo = [
        replace(job, threads=options.threads)
        for job in jobs(files, options.works, options.peers, setting, new_rank, options.full)
    ]
    title += f"; truncated to rank {setting.rank}, resized to {new_rank}"
    described = machine.describe(options.device, options.threads)
    name += "-" + setting.device.replace(":", "")
    results, written = [], []
    for result in compare(todo, log=lambda line: print(line, flush=True)):
        results.append(result)
        print(f"    {report.time_of(result)}", flush=True)
        # after each result, since a run may be interrupted
        written = report.write(results, title, described, options.out, name)
    print("\n" + report.markdown(results, title, described))
    return [*written, report.draw(results, title, options.out / f"{name}.png")]


def _scaling(options: argparse.Namespace, setting: Setting) -> list[Path]:
    total = len(ARCHITECTURES[options.arch]())
    modules = min(options.modules or total, total)
    plan = scaling.Plan(
        *(options.cache, options.arch, options.dtype, options.rank, options.count, modules),
        options.ranks,
        options.counts,
        options.module_counts,
    )
    points = scaling.measure(
        *(plan, options.works, options.peers, setting, in_own_process, options.threads),
        log=lambda line: print(line, flush=True),
    )
    title = (
        f"{options.arch} LoRAs: rank {options.rank}, {options.count} LoRAs and {modules} modules unless stated "
        f"otherwise; density {options.density:g}"
    )
    described = machine.describe(options.device, options.threads)
    print("\n" + scaling.markdown(points, title, described))
    return scaling.write(points, title, described, options.out)


def _range(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


if __name__ == "__main__":
    sys.exit(main())
