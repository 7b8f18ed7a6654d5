"""python -m benchmarks: compares with others; python -m benchmarks scaling: how time and memory grow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import machine, peers, report, scaling
from .inputs import cache, generate, modules_of
from .shapes import ARCHITECTURES
from .table import ROOT, compare, in_own_process, jobs
from .works import WORKS, Setting

DTYPES = ("float32", "float16", "bfloat16")
# What the growth is shown of, unless told otherwise: a sum, the exact one, and a mode on dense deltas.
SCALING_WORKS = ("add_svd", "concat", "resize", "ties", "ties_svd")

COMPARES = "Merge the same LoRAs with this pack and as others do: time, memory, accuracy. See docs/benchmarks.md."
GROWS = "How time and memory grow with the rank, the number of LoRAs and the number of modules."


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    grows = list(arguments[:1]) == ["scaling"]
    options = _parser(grows).parse_args(arguments[1:] if grows else arguments)
    setting = Setting(options.rank, options.density, options.seed, options.device, options.save_dtype)
    try:
        torch.empty(1, device=options.device)  # a device that isn't there says so before anything is made
        for path in _scaling(options, setting) if grows else _table(options, setting):
            print(path)
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(grows: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python run.py bench scaling" if grows else "python run.py bench",
        description=GROWS if grows else COMPARES,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--arch", choices=ARCHITECTURES, default="sdxl", help="the model whose LoRAs are made up")
    add("--rank", type=int, default=32, help="of the LoRAs, and of what is cut")
    add("--count", type=int, default=2, help="how many LoRAs")
    add("--modules", type=int, default=100 if grows else 0, help="only so many of the model's modules; 0: all")
    add("--dtype", choices=DTYPES, default="float16", help="of the LoRAs")
    add("--save-dtype", choices=DTYPES, default="float32", help="of the results")
    add("--density", type=float, default=0.5, help="of the modes that have one")
    add("--seed", type=int, default=0, help="of dare modes")
    add("--device", default="cpu", help="where to compute: cpu, cuda")
    add("--threads", type=int, default=0, help="of the CPU; 0: as torch sees fit")
    add("--works", type=_names(WORKS), default=",".join(SCALING_WORKS if grows else WORKS), help=", ".join(WORKS))
    add(
        "--peers",
        type=_names(peers.PEERS),
        default="none" if grows else ",".join(peers.PEERS),
        help=", ".join(peers.PEERS),
    )
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", help="the folder for tables and pictures")
    add("--cache", type=Path, default=ROOT / ".demo" / "benchmarks", help="the folder for made-up LoRAs")
    if grows:
        add("--ranks", type=_numbers, default=scaling.RANKS, help="along the first axis")
        add("--counts", type=_numbers, default=scaling.COUNTS, help="of LoRAs, along the second")
        add("--module-counts", type=_numbers, default=(), help="along the third; without: up to all")
    else:
        add("files", type=Path, nargs="*", help="LoRAs to merge in place of made-up ones")
        add("--new-rank", type=int, default=0, help="of resize; 0: half of --rank")
        add("--full", action="store_true", help="slow ones too on all modules: hours")
    return parser


def _names(known: Sequence[str] | dict[str, object] | dict):
    def names(text: str) -> list[str]:
        wanted = [name.strip() for name in text.split(",") if name.strip() and name.strip() != "none"]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
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
    cache(files)
    modules = modules_of([load_file(file) for file in files])
    if not modules:
        raise ValueError("The files hold no LoRA weights.")
    ranks = [term.up.shape[1] for module in modules for term in module.terms]
    what = (
        f"{len(files)} {'LoRAs' if options.files else options.arch + ' LoRAs'} of rank {_range(ranks)}, "
        f"{len(modules)} modules, {sum(file.stat().st_size for file in files) / 1e6:.0f} MB in all; "
        f"results in {options.save_dtype}, density {options.density:g}"
    )
    new_rank = options.new_rank or max(1, options.rank // 2)
    todo = [
        replace(job, threads=options.threads)
        for job in jobs(files, options.works, options.peers, setting, new_rank, options.full)
    ]
    what += f"; truncated to rank {setting.rank}, resized to {new_rank}"
    described = machine.describe(options.device, options.threads)
    name += "-" + setting.device.replace(":", "")
    results, written = [], []
    for result in compare(todo, tell=lambda line: print(line, flush=True)):
        results.append(result)
        print(f"    {report.time_of(result)}", flush=True)
        written = report.write(results, what, described, options.out, name)  # each time: it may be stopped
    print("\n" + report.markdown(results, what, described))
    return [*written, report.draw(results, what, options.out / f"{name}.png")]


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
        tell=lambda line: print(line, flush=True),
    )
    what = (
        f"{options.arch} LoRAs: rank {options.rank}, {options.count} LoRAs and {modules} modules where not said "
        f"otherwise; density {options.density:g}"
    )
    described = machine.describe(options.device, options.threads)
    print("\n" + scaling.markdown(points, what, described))
    return scaling.write(points, what, described, options.out)


def _range(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


if __name__ == "__main__":
    sys.exit(main())
