"""Results as a Markdown table, JSON and a chart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from . import ours
from .accuracy import Error
from .job import Result

HEAD = "| work | tool | load to save | times ours | memory | error |\n|---|---|---|---|---|---|\n"


def markdown(results: Sequence[Result], title: str, machine: str) -> str:
    lines = [f"{title}\n\n{machine}\n\n{HEAD}"]
    for result in results:
        cells = (
            result.work,
            result.tool,
            time_of(result),
            _times_ours(result, results),
            "" if result.memory is None else megabytes(result.memory),
            "" if result.error is None else error(result.error),
        )
        lines.append("| " + " | ".join(cells) + " |\n")
    lines.append(
        "\nMemory: peak beyond inputs and output. Error: relative to the least possible error at that rank or, if no "
        "loss is necessary, to the norm of the exact delta; the worst of one module per shape.\n"
    )
    return "".join(lines)


def ratio(result: Result, results: Sequence[Result]) -> float | None:
    """Time relative to this pack's, on the same modules: all, or the sample if only that was measured."""
    own = next((r for r in results if r.work == result.work and r.tool == ours.NAME), None)
    if own is None or own.failed or result.failed:
        return None
    if result.measured < result.modules:
        pair = result.sample_seconds, own.sample_seconds
    else:
        pair = result.seconds, own.seconds
    return pair[0] / pair[1] if pair[0] is not None and pair[1] else None


def _times_ours(result: Result, results: Sequence[Result]) -> str:
    found = ratio(result, results)
    if found is None:
        return ""
    return f"{found:.0f}" if found >= 10 else f"{found:.1f}" if found >= 2 else f"{found:.2f}"


def time_of(result: Result) -> str:
    if result.failed:
        return f"failed: {result.failed}"
    if result.seconds is None:
        return ""
    text = duration(result.seconds)
    if result.measured < result.modules:
        text += f" (extrapolated from {result.measured} of {result.modules} modules)"
    return text


def duration(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB" if count < 9.95e8 else f"{count / 1e9:.1f} GB"


def error(found: Error) -> str:
    if found.kind == "relative":
        return f"{found.value:.0e} of the whole"
    digits = 6 if found.value < 1.0001 else 4 if found.value < 1.01 else 3
    return f"{found.value:.{digits}f}"


def write(results: Sequence[Result], title: str, machine: str, folder: Path, name: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    table, data = folder / f"{name}.md", folder / f"{name}.json"
    table.write_text(markdown(results, title, machine), "utf-8")
    content = {"title": title, "machine": machine, "results": [asdict(result) for result in results]}
    data.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return [table, data]


def draw(results: Sequence[Result], title: str, path: Path) -> Path:
    """A bar chart with one bar per result; extrapolated ones are pale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    shown = [result for result in results if result.seconds is not None and not result.failed]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.27 * len(shown)))
    for place, result in enumerate(shown):
        extrapolated = result.measured < result.modules
        assert result.seconds is not None
        axes.barh(
            place,
            result.seconds,
            color="tab:blue" if result.tool == ours.NAME else "tab:gray",
            alpha=0.5 if extrapolated else 1.0,
        )
        note = f" {duration(result.seconds)}" + (" (extrapolated)" if extrapolated else "")
        axes.text(result.seconds, place, note, va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), [f"{result.work}: {result.tool}" for result in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.set_xlabel("load to save")
    axes.set_title(title, fontsize=9)
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
