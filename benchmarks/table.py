"""The comparison: every work with every tool, one at a time, each in its own process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from . import ours, peers
from .job import Job, Result, result_from, to_json
from .works import WORKS, Setting

ROOT = Path(__file__).resolve().parents[1]


def in_own_process(job: Job) -> Result:
    command = [sys.executable, "-m", "benchmarks.job", to_json(job)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return Result(job.work, job.tool, failed=f"its process exited with code {done.returncode}")
    return result_from(done.stdout.splitlines()[-1])


def jobs(
    files: Sequence[Path], works: Sequence[str], tools: Sequence[str], setting: Setting, new_rank: int, full: bool
) -> Iterator[Job]:
    """The jobs, with this pack first in each work. All tools merge the same files. ``new_rank`` is for resize."""
    for work in works:
        of_work = replace(setting, rank=new_rank) if WORKS[work].kind == "resize" else setting
        job = Job(tuple(str(file) for file in files), work, ours.NAME, of_work, whole=True, sample=True)
        yield job
        for name in tools:
            peer = peers.PEERS[name]
            if work in peer.works:
                slow = work in peer.slow and not full
                yield replace(job, tool=name, whole=not slow, sample=slow)


def compare(
    todo: Sequence[Job],
    run: Callable[[Job], Result] = in_own_process,
    log: Callable[[str], None] = print,
) -> Iterator[Result]:
    known: dict[str, dict[str, float]] = {}  # work -> module -> least error
    for number, job in enumerate(todo, 1):
        log(f"[{number}/{len(todo)}] {job.work}: {job.tool}{'' if job.whole else ', one module of each shape'}")
        if not peers.has_peft() and job.tool != ours.NAME and job.work in peers.PEERS[job.tool].needs_peft:
            result = Result(job.work, job.tool, failed="peft is not installed")
        else:
            result = run(replace(job, least=known.get(job.work, {})))
        known.setdefault(job.work, {}).update(result.least)
        yield result
