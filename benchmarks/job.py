"""One measurement in its own process: `python -m benchmarks.job JSON` prints the result as JSON on the last line."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import accuracy, ours, peers
from .inputs import Module, Term, first_terms, modules_of, one_of_each
from .measure import Memory, median, seconds, synchronise, wants_another
from .works import WORKS, Setting, Work

Factors = tuple[Tensor, Tensor]
# A merge of one module that takes longer than this many seconds is measured once, without warm-up.
LONG = 2.0


@dataclass(frozen=True)
class Job:
    """``whole``: load, merge all modules, save. ``sample``: only the merge, of one module of each shape.

    ``least`` has the least errors already known, by module: computing them costs much more than the work itself.
    """

    files: tuple[str, ...]
    work: str
    tool: str
    setting: Setting
    whole: bool
    sample: bool
    accuracy: bool = True
    threads: int = 0
    least: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """``seconds``: from loading to saving, the median of ``runs``, or extrapolated from the sample.

    ``sample_seconds``: the merge time of the sample, each module weighted by how many of its shape there are.
    ``memory``: the peak in bytes, without inputs and output.
    """

    work: str
    tool: str
    modules: int = 0
    measured: int = 0
    seconds: float | None = None
    fastest: float | None = None
    runs: int = 0
    sample_seconds: float | None = None
    memory: int | None = None
    error: accuracy.Error | None = None
    failed: str = ""
    least: dict[str, float] = field(default_factory=dict)


def run(job: Job) -> Result:
    """Run a job. Failures are reported in the result."""
    result = Result(job.work, job.tool)
    if job.threads:
        torch.set_num_threads(job.threads)
    try:
        with torch.no_grad(), tempfile.TemporaryDirectory(dir=Path(job.files[0]).parent) as folder:
            _run(job, result, Path(folder) / "out.safetensors")
    except (RuntimeError, ValueError, MemoryError, ImportError) as error:
        result.failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return result


def _run(job: Job, result: Result, out: Path) -> None:
    work, files = WORKS[job.work], [Path(file) for file in job.files]
    copies = job.tool != ours.NAME and peers.PEERS[job.tool].merge is None
    if not copies:
        _merge_one(job, _tiny(work))  # warms up libraries, threads and their buffers
    if job.whole:
        _whole(job, result, work, files, out)
    modules = _modules(work, files)
    result.modules = len(modules)
    result.measured = len(modules) if job.whole else len(one_of_each(modules))
    if copies:
        return
    del modules
    sample = one_of_each(_modules(work, files, owned=True))
    merged: dict[str, Factors] = {}
    if job.sample:
        _sample(job, result, work, files, sample, merged, out)
    if job.accuracy:
        _accuracy(job, result, work, [module for module, _ in sample], merged)


# --- measurements ---


def _whole(job: Job, result: Result, work: Work, files: Sequence[Path], out: Path) -> None:
    def load_to_save() -> None:
        if job.tool == ours.NAME:
            ours.load_to_save(work, files, out, job.setting)
        else:
            peers.load_to_save(peers.PEERS[job.tool], work, files, out, job.setting)

    times: list[float] = []
    memory = Memory(job.setting.device)
    while wants_another(times):
        times.append(seconds(load_to_save, job.setting.device))
        if len(times) == 1:
            most = memory.peak()
            # inputs and output are in main memory, not on the device; this pack doesn't load its inputs into memory
            used = () if job.tool == ours.NAME else files[:1] if work.kind == "resize" else files
            tensors = sum(file.stat().st_size for file in used) + out.stat().st_size
            result.memory = most if memory.on_device else max(0, most - tensors)
    result.seconds, result.fastest, result.runs = median(times), min(times), len(times)


def _sample(
    job: Job,
    result: Result,
    work: Work,
    files: Sequence[Path],
    sample: Sequence[tuple[Module, int]],
    merged: dict[str, Factors],
    out: Path,
) -> None:
    timed = _our_times(job, work, files, sample) if job.tool == ours.NAME else _peer_times(job, result, sample, merged)
    result.sample_seconds = sum(median(times) * count for times, (_, count) in zip(timed, sample, strict=True))
    if not job.whole:
        result.seconds = result.sample_seconds + seconds(lambda: _read_and_write(job, work, files, out), "cpu")
        result.runs = min(len(times) for times in timed)


def _our_times(job: Job, work: Work, files: Sequence[Path], sample: Sequence[tuple[Module, int]]) -> list[list[float]]:
    """Times per module, taken from the progress that one merge of the sample reports after each module."""
    loras = ours.only(ours.read(files, work), [module.name for module, _ in sample])
    device = job.setting.device
    runs: list[list[float]] = []
    while wants_another([sum(run) for run in runs[1:]]):
        moments = []

        def note(done: int, total: int, moments: list[float] = moments) -> None:
            synchronise(device)
            moments.append(time.perf_counter())

        note(0, 0)
        ours.merged(work, loras, job.setting, note)
        runs.append([after - before for before, after in zip(moments, moments[1:], strict=False)])
        if sum(runs[0]) > LONG * len(sample):
            break
    timed = runs[1:] or runs
    return [list(times) for times in zip(*timed, strict=True)]


def _peer_times(
    job: Job, result: Result, sample: Sequence[tuple[Module, int]], merged: dict[str, Factors]
) -> list[list[float]]:
    """Times per module. The results go into ``merged``, since some take minutes to compute."""
    timed = []
    memory = Memory(job.setting.device)
    for module, _ in sample:

        def merge(module: Module = module) -> None:
            merged[module.name] = _merge_one(job, module)

        times: list[float] = []
        while len(times) < (4 if not times or times[0] < LONG else 1):
            torch.manual_seed(job.setting.seed)
            times.append(seconds(merge, job.setting.device))
        timed.append(times[1:] or times)
    if not job.whole:
        result.memory = memory.peak()
    return timed


def _read_and_write(job: Job, work: Work, files: Sequence[Path], out: Path) -> None:
    """The cost of a whole work without the merge: read all tensors, and write as much as a result takes."""
    tensors: dict[str, Tensor] = {}
    kept = {}
    for number, file in enumerate(files[:1] if work.kind == "resize" else files):
        kept.update({f"{number}.{key}": tensor.clone() for key, tensor in load_file(file).items()})
    for module in _modules(work, files):
        rank = min(job.setting.rank, module.rows, module.columns)
        tensors[f"{module.name}.lora_up.weight"] = torch.full((module.rows, rank), 0.5, dtype=job.setting.torch_dtype)
        tensors[f"{module.name}.lora_down.weight"] = torch.full(
            (rank, module.columns), 0.5, dtype=job.setting.torch_dtype
        )
    save_file(tensors, out)


def _accuracy(job: Job, result: Result, work: Work, sample: Sequence[Module], merged: dict[str, Factors]) -> None:
    """The worst error in the sample: a ratio if the best truncation loses anything, else a relative error."""
    errors = []
    for module in sample:
        torch.manual_seed(job.setting.seed)
        up, down = merged.get(module.name) or _merge_one(job, module)
        torch.manual_seed(job.setting.seed)
        if job.tool == ours.NAME:
            masks = ours.masks(work, module, job.setting)
        else:
            masks = peers.masks(work, job.setting)
        delta = accuracy.exact_delta(work, module, masks)
        least = 0.0
        if work.truncates:
            known = {} if work.mode == "dare_linear" else job.least  # there each tool has its own masks
            least = known[module.name] if module.name in known else accuracy.least_error(delta, job.setting.rank)
            result.least[module.name] = least
        errors.append(accuracy.error(work, up, down, delta, least))
    ratios = [error for error in errors if error.kind == "ratio"]
    result.error = max(ratios or errors, key=lambda error: error.value)


# --- modules ---


def _merge_one(job: Job, module: Module) -> Factors:
    work = WORKS[job.work]
    if job.tool == ours.NAME:
        return ours.factors(work, module, job.setting)
    merge = peers.PEERS[job.tool].merge
    assert merge is not None
    return peers.result(*merge(work, module.terms, job.setting), job.setting)


def _modules(work: Work, files: Sequence[Path], owned: bool = False) -> list[Module]:
    """All modules. ``owned``: copies one module of each shape into memory; the rest stay in mapped files."""
    modules = modules_of([load_file(file) for file in files])
    if work.kind == "resize":
        modules = first_terms(modules)
    if not owned:
        return modules
    names = {module.name for module, _ in one_of_each(modules)}
    return [_copied(module) if module.name in names else module for module in modules]


def _copied(module: Module) -> Module:
    return Module(
        module.name, tuple(Term(t.up.clone(), t.down.clone(), t.scale, t.strength, t.input_index) for t in module.terms)
    )


def _tiny(work: Work) -> Module:
    noise = torch.Generator().manual_seed(0)
    terms = [
        Term(torch.randn(96, 8, generator=noise), torch.randn(8, 80, generator=noise), 0.5, 1.0, input_index)
        for input_index in ((1,) if work.kind == "resize" else (1, 2))
    ]
    return Module("lora_unet_mid_block_attentions_0_proj_in", tuple(terms))


# --- JSON between the processes ---


def to_json(value: Job | Result) -> str:
    return json.dumps(asdict(value))


def job_from(text: str) -> Job:
    fields = json.loads(text)
    return Job(**{**fields, "files": tuple(fields["files"]), "setting": Setting(**fields["setting"])})


def result_from(text: str) -> Result:
    fields = json.loads(text)
    error = fields["error"]
    return Result(**{**fields, "error": error and accuracy.Error(**error)})


if __name__ == "__main__":
    print(to_json(run(job_from(sys.argv[1]))))
