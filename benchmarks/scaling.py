"""Measures how time and memory grow with the rank, the number of LoRAs and the number of modules."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import ours, peers
from .inputs import generate, warm_file_cache
from .job import Job, Result
from .report import duration, megabytes
from .shapes import ARCHITECTURES
from .works import WORKS, Setting

AXES = {"rank": "rank", "loras": "number of LoRAs", "modules": "number of modules"}
RANKS = (4, 8, 16, 32, 64, 128)
COUNTS = (2, 3, 4, 6, 8, 12)
PARTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)


@dataclass(frozen=True)
class Plan:
    """The axes, and the values that stay fixed along the other axes (``modules``: how many modules to use)."""

    folder: Path
    architecture: str
    dtype: str
    rank: int
    count: int
    modules: int
    ranks: tuple[int, ...] = RANKS
    counts: tuple[int, ...] = COUNTS
    module_counts: tuple[int, ...] = ()

    def points(self) -> list[tuple[str, int, int, int, int]]:
        """All measurements as (axis, value, rank, number of LoRAs, number of modules)."""
        total = len(ARCHITECTURES[self.architecture]())
        sizes = self.module_counts or tuple(max(1, round(total * part)) for part in PARTS)
        return [
            *(("rank", rank, rank, self.count, self.modules) for rank in self.ranks),
            *(("loras", count, self.rank, count, self.modules) for count in self.counts),
            *(("modules", size, self.rank, self.count, size) for size in sizes),
        ]


@dataclass(frozen=True)
class Point:
    axis: str
    value: int
    result: Result


def measure(
    plan: Plan,
    works: Sequence[str],
    tools: Sequence[str],
    setting: Setting,
    run: Callable[[Job], Result],
    threads: int = 0,
    log: Callable[[str], None] = print,
) -> list[Point]:
    """Measure every point once, even if axes share it. Results have the rank of the inputs; a resize halves it."""
    points: list[Point] = []
    known: dict[tuple[object, ...], Result] = {}
    for axis, value, rank, count, modules in plan.points():
        files = generate(plan.folder, plan.architecture, rank, count, plan.dtype, modules=modules)
        in_cache = False
        for work in works:
            if WORKS[work].kind == "resize" and axis == "loras":
                continue  # resizes only the first LoRA
            of_work = replace(setting, rank=max(1, rank // 2) if WORKS[work].kind == "resize" else rank)
            for name in (ours.NAME, *(peer for peer in tools if work in peers.PEERS[peer].works)):
                same = (rank, count, modules, work, name)
                if same not in known:
                    if not in_cache:
                        warm_file_cache(files)
                        in_cache = True
                    log(f"{AXES[axis]} {value}, {work}: {name}")
                    paths = tuple(str(file) for file in files)
                    job = Job(paths, work, name, of_work, whole=True, sample=False, accuracy=False, threads=threads)
                    known[same] = run(job)
                points.append(Point(axis, value, known[same]))
    return points


def write(points: Sequence[Point], title: str, machine: str, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    table, values, picture = (folder / f"scaling.{ending}" for ending in ("md", "csv", "png"))
    table.write_text(markdown(points, title, machine), "utf-8")
    with values.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["axis", "value", "work", "tool", "seconds", "memory_bytes", "failed"])
        for point in points:
            r = point.result
            writer.writerow([point.axis, point.value, r.work, r.tool, r.seconds, r.memory, r.failed])
    draw(points, title, picture)
    return [table, values, picture]


def markdown(points: Sequence[Point], title: str, machine: str) -> str:
    lines = [f"{title}\n\n{machine}\n"]
    for axis, axis_label in AXES.items():
        here = [point for point in points if point.axis == axis]
        if not here:
            continue
        values = sorted({point.value for point in here})
        lines.append(f"\n| {axis_label} | " + " | ".join(str(value) for value in values) + " |\n")
        lines.append("|---" * (len(values) + 1) + "|\n")
        for work, tool in _rows(here):
            cells = {p.value: _cell(p.result) for p in here if (p.result.work, p.result.tool) == (work, tool)}
            lines.append(f"| {work}: {tool} | " + " | ".join(cells.get(value, "") for value in values) + " |\n")
    lines.append("\nEach cell: time from loading to saving, and peak memory beyond inputs and output.\n")
    return "".join(lines)


def draw(points: Sequence[Point], title: str, path: Path) -> None:
    """Time above, memory below (at least 1 MB), on logarithmic axes: a straight line is a power law."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, grid = pyplot.subplots(2, len(AXES), figsize=(12, 7), sharey="row", squeeze=False)
    for column, (axis, axis_label) in enumerate(AXES.items()):
        here = [point for point in points if point.axis == axis and not point.result.failed]
        for row, (unit, label) in enumerate(((duration, "load to save"), (megabytes, "memory"))):
            axes = grid[row][column]
            for work, tool in _rows(here):
                line = [p for p in here if (p.result.work, p.result.tool) == (work, tool)]
                heights = [p.result.seconds if row == 0 else max(p.result.memory or 0, 1e6) for p in line]
                style = "-" if tool == ours.NAME else ":"
                axes.plot([p.value for p in line], heights, style, marker="o", label=f"{work}: {tool}", markersize=4)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            readable = FuncFormatter(lambda value, _, unit=unit: unit(value))
            axes.yaxis.set_major_formatter(readable)
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_minor_formatter(readable)
            axes.tick_params(axis="y", which="minor", labelsize=7)
            values = sorted({p.value for p in here})
            axes.set_xticks(values, [str(value) for value in values])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(alpha=0.3)
            if row:
                axes.set_xlabel(axis_label)
            if not column:
                axes.set_ylabel(label)
    grid[0][0].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _rows(points: Sequence[Point]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((point.result.work, point.result.tool) for point in points))


def _cell(result: Result) -> str:
    if result.failed or result.seconds is None:
        return "failed"
    return f"{duration(result.seconds)}, {megabytes(result.memory or 0)}"
