"""How time and memory grow with the rank, the number of LoRAs and the number of modules."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import ours, peers
from .inputs import cache, generate
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
    """What stays the same while another axis grows; ``modules`` is the size of the model's part for the other axes."""

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
        """(axis, value, rank, number of LoRAs, number of modules)."""
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
    who: Sequence[str],
    setting: Setting,
    run: Callable[[Job], Result],
    threads: int = 0,
    tell: Callable[[str], None] = print,
) -> list[Point]:
    """The rank of a result is that of the inputs, of a resize half of it. What several axes share is measured once."""
    points: list[Point] = []
    known: dict[tuple[object, ...], Result] = {}
    for axis, value, rank, count, modules in plan.points():
        files = generate(plan.folder, plan.architecture, rank, count, plan.dtype, modules=modules)
        in_cache = False
        for work in works:
            if WORKS[work].kind == "resize" and axis == "loras":
                continue  # of one LoRA whatever their number
            cut = replace(setting, rank=max(1, rank // 2) if WORKS[work].kind == "resize" else rank)
            for name in (ours.NAME, *(peer for peer in who if work in peers.PEERS[peer].works)):
                same = (rank, count, modules, work, name)
                if same not in known:
                    if not in_cache:
                        cache(files)
                        in_cache = True
                    tell(f"{AXES[axis]} {value}, {work}: {name}")
                    paths = tuple(str(file) for file in files)
                    job = Job(paths, work, name, cut, whole=True, sample=False, accuracy=False, threads=threads)
                    known[same] = run(job)
                points.append(Point(axis, value, known[same]))
    return points


def write(points: Sequence[Point], what: str, machine: str, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    table, values, picture = (folder / f"scaling.{ending}" for ending in ("md", "csv", "png"))
    table.write_text(markdown(points, what, machine), "utf-8")
    with values.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["axis", "value", "work", "who", "seconds", "memory_bytes", "failed"])
        for point in points:
            r = point.result
            writer.writerow([point.axis, point.value, r.work, r.who, r.seconds, r.memory, r.failed])
    draw(points, what, picture)
    return [table, values, picture]


def markdown(points: Sequence[Point], what: str, machine: str) -> str:
    lines = [f"{what}\n\n{machine}\n"]
    for axis, title in AXES.items():
        here = [point for point in points if point.axis == axis]
        if not here:
            continue
        values = sorted({point.value for point in here})
        lines.append(f"\n| {title} | " + " | ".join(str(value) for value in values) + " |\n")
        lines.append("|---" * (len(values) + 1) + "|\n")
        for work, who in _rows(here):
            cells = {p.value: _cell(p.result) for p in here if (p.result.work, p.result.who) == (work, who)}
            lines.append(f"| {work}: {who} | " + " | ".join(cells.get(value, "") for value in values) + " |\n")
    lines.append("\nEach cell: load to save, and the peak of memory beyond inputs and output.\n")
    return "".join(lines)


def draw(points: Sequence[Point], what: str, path: Path) -> None:
    """Time above, memory below (less than 1 MB as 1 MB); all axes logarithmic, so that a straight line is a power."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, grid = pyplot.subplots(2, len(AXES), figsize=(12, 7), sharey="row", squeeze=False)
    for column, (axis, title) in enumerate(AXES.items()):
        here = [point for point in points if point.axis == axis and not point.result.failed]
        for row, (unit, label) in enumerate(((duration, "load to save"), (megabytes, "memory"))):
            axes = grid[row][column]
            for work, who in _rows(here):
                line = [p for p in here if (p.result.work, p.result.who) == (work, who)]
                heights = [p.result.seconds if row == 0 else max(p.result.memory or 0, 1e6) for p in line]
                style = "-" if who == ours.NAME else ":"
                axes.plot([p.value for p in line], heights, style, marker="o", label=f"{work}: {who}", markersize=4)
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
                axes.set_xlabel(title)
            if not column:
                axes.set_ylabel(label)
    grid[0][0].legend(fontsize=7)
    figure.suptitle(what, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _rows(points: Sequence[Point]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((point.result.work, point.result.who) for point in points))


def _cell(result: Result) -> str:
    if result.failed or result.seconds is None:
        return "failed"
    return f"{duration(result.seconds)}, {megabytes(result.memory or 0)}"
