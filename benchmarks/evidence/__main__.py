"""python -m benchmarks.evidence: trains LoRAs on the base, merges them, judges the pictures and writes the report."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from . import judges, machine, report, strengths
from .base import FOLDER, MODEL_FILE, load_base
from .evaluate import known_pool, read_sheet, truth
from .fonts import ROOT, font_file
from .glyphs import CONCEPTS, STYLES, VARIANTS
from .loras import CONCEPT_FONTS, STYLE_LETTERS
from .outside import read_characters
from .results import Results, collect, write
from .settings import MODES
from .study import FULL, QUICK, Scale, Study
from .units import clear_claims, work_through
from .validation import validate

STATE = ROOT / ".evidence"
SECONDS_BETWEEN_LINES = 30
MINUTES, MINUTES_QUICK = 56, 4.5  # of work; judging the score and writing the page take what is left to 60 and 5


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)  # the matrices are small: a second process uses a second core better
    if options.train_base:
        from .train_base import train_base

        train_base()
    try:
        study = Study(_folder(options), _scale(options), lambda: load_base(options.base))
        if options.worker:
            return _work(study, options.deadline)
        return _run(study, options)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python run.py evidence",
        description="How much of a concept and of a style do merges keep? See docs/evidence.md.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="five minutes: shows that everything works; too small to compare modes")
    add("--minutes", type=float, help="stop after this time and report what is done by then (56; 4.5 with --quick)")
    add("--method", metavar="NAME", help="only this mode or method, beside the exact sum")
    add("--train-base", action="store_true", help="make the shipped base again first, which takes about an hour more")
    add("--processes", type=int, default=min(2, os.cpu_count() or 1), help="processes of one thread")
    add("--publish", action="store_true", help="write docs/evidence.md, its plots and the shipped results")
    add("--state", type=Path, default=STATE, help="folder of the work: a run goes on where an earlier one stopped")
    add("--base", type=Path, default=FOLDER, help="folder of the base")
    add("--report", action="store_true", help="do no work, only write the results of what has been done")
    add("--worker", action="store_true", help=argparse.SUPPRESS)
    add("--deadline", type=float, default=0, help=argparse.SUPPRESS)
    return parser


def _folder(options: argparse.Namespace) -> Path:
    """One for each base and scale: their files would not fit together."""
    digest = hashlib.sha256((options.base / MODEL_FILE).read_bytes()).hexdigest()[:8]
    return options.state / f"{'quick' if options.quick else 'full'}-{digest}"


def _scale(options: argparse.Namespace) -> Scale:
    scale = QUICK if options.quick else FULL
    if not options.method:
        return scale
    modes = [mode for mode in MODES if options.method in (mode, mode.removesuffix("_svd"))]
    if not modes:
        raise ValueError(f"There is no method {options.method!r}. The modes are {', '.join(MODES)}.")
    return Scale(**{**vars(scale), "modes": tuple(modes)})


def _work(study: Study, deadline: float) -> int:
    for units in study.stages():
        work_through(units, deadline)
        if time.time() >= deadline:
            break
    return 0


def _run(study: Study, options: argparse.Namespace) -> int:
    font_file(STYLES[0])  # downloads all of them before several processes need them
    study.folder.mkdir(parents=True, exist_ok=True)
    started = time.time()
    if not options.report:
        clear_claims(study.folder)
        deadline = started + 60 * (options.minutes or (MINUTES_QUICK if options.quick else MINUTES))
        try:
            code = _watch(study, options, deadline)
        finally:
            _add_time(study.folder, time.time() - started)
        if code:
            return code
    if not study.files():
        print("Nothing has been evaluated yet.", file=sys.stderr)
        return 1
    results = _results(study, options)
    for path in _write(results, options):
        print(path)
    return 0


def _watch(study: Study, options: argparse.Namespace, deadline: float) -> int:
    """Run the workers and print how far they are. Returns 1 if one failed; Ctrl+C stops them, and nothing is lost."""
    command = [sys.executable, "-m", "benchmarks.evidence", *sys.argv[1:], "--worker", "--deadline", str(deadline)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(max(1, options.processes))]
    (before, _), started = _done_and_planned(study), time.time()
    try:
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() for worker in workers):
                break
            time.sleep(1)
            if int(time.time() - started) % SECONDS_BETWEEN_LINES == 0:
                print(_progress(study, before, started, deadline), flush=True)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    return 1 if any(worker.returncode > 0 for worker in workers) else 0


def _progress(study: Study, before: int, started: float, deadline: float) -> str:
    done, planned = _done_and_planned(study)
    elapsed = time.time() - started
    left = deadline - time.time()
    if done > before:
        left = min(left, elapsed / (done - before) * (planned - done))
    return f"{done} of {planned} units; {elapsed / 60:.0f} min, at most {max(0, left) / 60:.0f} min left"


def _done_and_planned(study: Study) -> tuple[int, int]:
    files = {unit.file for units in study.stages() for unit in units}
    return sum(file.is_file() for file in files), len(files)


def _seconds(folder: Path) -> float:
    """How long runs have worked in the folder, all together."""
    path = folder / "seconds.txt"
    return float(path.read_text("utf-8")) if path.is_file() else 0.0


def _add_time(folder: Path, seconds: float) -> None:
    (folder / "seconds.txt").write_text(f"{_seconds(folder) + seconds:.0f}", "utf-8")


def _results(study: Study, options: argparse.Namespace) -> Results:
    character, font = judges.load(study.judge_file(0)), judges.load(study.judge_file(1))
    known = read_sheet(study.known_file)
    characters = character.name(known)
    right = zip(characters, font.name(known), known_pool(), strict=True)
    about = {
        "scale": study.scale.name,
        "machine": machine.described(options.processes),
        "minutes": round(_seconds(study.folder) / 60),
        "judges": {"character": round(character.accuracy, 4), "font": round(font.accuracy, 4)},
        "truth": {"character": _right_about_truth(character, 0), "font": _right_about_truth(font, 1)},
        "known": round(float(np.mean([(a, b) == pair for a, b, pair in right])), 4),
        "lora_steps": study.scale.lora_steps,
        "fonts": CONCEPT_FONTS,
        "letters": STYLE_LETTERS,
        "outside": read_characters(study.files(), known, characters),
        "scores": validate(study),
        "searches": strengths.summarised(study.searches()),
    }
    return collect(study.files(), about)


def _right_about_truth(judge: judges.Trained, part: int) -> float:
    """How often a judge is right about the true pictures of the concepts in the styles."""
    targets = [(concept, style) for concept in CONCEPTS for style in STYLES]
    names = judge.name(np.concatenate([truth(*target) for target in targets]))
    asked = [target[part] for target in targets for _ in range(VARIANTS)]
    return round(float(np.mean([name == wanted for name, wanted in zip(names, asked, strict=True)])), 4)


def _write(results: Results, options: argparse.Namespace) -> list[Path]:
    if options.publish:
        write(results, report.RESULTS)
        return [report.RESULTS, *report.write(results, report.PAGE)]
    write(results, options.state / "results.json")
    return [options.state / "results.json", *report.write(results, options.state / "evidence.md")]


if __name__ == "__main__":
    sys.exit(main())
