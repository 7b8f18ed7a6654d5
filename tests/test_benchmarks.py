"""The benchmark is fair: tools get the same inputs, peers compute the right thing, tables are correct. No timings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
# `python -m benchmarks` has the repository on sys.path; the tests don't (see conftest.py).
sys.path.insert(0, str(ROOT))
try:
    from benchmarks import __main__ as program
    from benchmarks import accuracy, inputs, job, machine, measure, ours, peers, report, scaling, shapes, table
    from benchmarks.works import WORKS, Setting
    from tools.make_lora import write_lora
finally:
    sys.path.remove(str(ROOT))

MODULES = [
    ("lora_unet_mid_block_attentions_0_proj_in", 24, 24, True),
    ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 24, 24, False),
    ("lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj", 40, 24, False),
    ("lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2", 18, 30, False),
]
RANK = 3
# Largest allowed error ratio. svd_lowrank is approximate by design; the others only round.
MAX_RATIO = {"svd_lowrank": 1.1}

PAIRS = [(work, peer.name) for peer in peers.PEERS.values() for work in peer.works]


def require_peft(work: str, tool: str) -> None:
    if work in peers.PEERS[tool].needs_peft and not peers.has_peft():
        pytest.skip("peft is not installed")


@pytest.fixture(autouse=True)
def quick_runs(monkeypatch: pytest.MonkeyPatch):
    """Single runs and one thread: times don't matter here, and threads only slow down small matrices."""
    monkeypatch.setattr(measure, "MAX_RUNS", 1)
    monkeypatch.setattr(job, "LONG", 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("loras")
    paths = [folder / f"{seed}.safetensors" for seed in (1, 2, 3)]
    for seed, path in enumerate(paths, 1):
        write_lora(path, RANK, seed=seed, dtype=torch.float32, alpha=2.0, modules=MODULES)
    return paths


def a_job(files: list[Path], work: str, tool: str, **changes: Any) -> job.Job:
    setting = Setting(rank=2, density=0.5, seed=5)
    options = {"whole": True, "sample": True, **changes}
    return job.Job(tuple(str(file) for file in files), work, tool, setting, **options)


# --- fairness ---


@pytest.mark.parametrize(("work", "tool"), PAIRS)
def test_each_peer_computes_its_work(files: list[Path], work: str, tool: str, monkeypatch: pytest.MonkeyPatch):
    require_peft(work, tool)
    if tool == "dense SVD":
        monkeypatch.setattr(peers, "CLAMP_QUANTILE", None)  # the clamp adds an error, tested below
    result = job.run(a_job(files, work, tool))
    assert not result.failed
    if peers.PEERS[tool].merge is None:
        assert result.error is None
        return
    assert result.error is not None
    if WORKS[work].truncates:
        assert result.error.kind == "ratio"
        assert 1 - 1e-6 <= result.error.value <= MAX_RATIO.get(tool, 1.00001)
    else:
        assert result.error.kind == "relative"
        assert result.error.value < 1e-6


@pytest.mark.parametrize("work", WORKS)
def test_this_pack_passes_the_same_accuracy_checks(files: list[Path], work: str):
    result = job.run(a_job(files, work, ours.NAME))
    assert not result.failed and result.error is not None
    assert result.error.kind == ("ratio" if WORKS[work].truncates else "relative")
    assert result.error.value < (1.01 if WORKS[work].truncates else 1e-6)
    assert result.modules == result.measured == len(MODULES)
    assert result.seconds and result.sample_seconds and result.memory is not None


def test_the_error_of_sd_scripts_clamp_is_measured(files: list[Path]):
    result = job.run(a_job(files, "add_svd", "dense SVD", whole=False))
    assert result.error is not None and result.error.value > 1.001


def test_a_wrong_merge_has_a_large_error(files: list[Path], monkeypatch: pytest.MonkeyPatch):
    def without_scale(term: inputs.Term, device: str) -> torch.Tensor:
        return term.up @ term.down

    monkeypatch.setattr(peers, "_delta", without_scale)
    result = job.run(a_job(files, "add_svd", "svd_lowrank"))
    assert result.error is not None and result.error.value > 1.2


@pytest.mark.parametrize("tool", [ours.NAME, "QR float64", "naive concat"])
def test_the_files_written_while_timing_contain_the_sum(files: list[Path], tool: str, tmp_path: Path):
    """Timing from load to save covers the whole work only if the file is right."""
    work = WORKS["concat" if tool == "naive concat" else "add_svd"]
    out = tmp_path / "out.safetensors"
    setting = Setting(rank=3 * RANK)
    if tool == ours.NAME:
        ours.load_to_save(work, files, out, setting)
    else:
        peers.load_to_save(peers.PEERS[tool], work, files, out, setting)
    merged = {module.name: module.terms[0] for module in inputs.modules_of([load_file(out)])}
    for module in inputs.modules_of([load_file(file) for file in files]):
        expected = sum(t.effective_weight * (t.up.double() @ t.down.double()) for t in module.terms)
        term = merged[module.name]
        found = term.scale * (term.up.double() @ term.down.double())
        assert torch.linalg.vector_norm(found - expected) < 1e-6 * torch.linalg.vector_norm(expected)


def test_a_sample_is_extrapolated_to_all_modules(files: list[Path]):
    """One module of each shape; the 24x24 one counts twice."""
    result = job.run(a_job(files, "add_svd", "dense SVD", whole=False))
    assert (result.modules, result.measured) == (4, 3)
    assert result.seconds is not None and result.sample_seconds is not None
    assert result.seconds > result.sample_seconds > 0
    assert [count for _, count in inputs.one_of_each(inputs.modules_of([load_file(files[0])]))] == [2, 1, 1]


@pytest.mark.parametrize("small", [0, 100], ids=["by the Gram matrix", "by all singular values"])
@pytest.mark.parametrize("size", [(30, 20), (20, 30)])
def test_least_error_is_that_of_eckart_young(size: tuple[int, int], small: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accuracy, "SMALL", small)
    delta = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.linalg.vector_norm(torch.linalg.svdvals(delta)[5:])
    assert accuracy.least_error(delta, 5) == pytest.approx(float(expected), rel=1e-9)


def test_memory_excludes_inputs_and_output(files: list[Path]):
    """In its own process. Apart from the tensors a merge of these small files needs next to nothing."""
    found = table.in_own_process(a_job(files, "add_svd", ours.NAME))
    assert not found.failed and found.memory is not None
    assert found.memory < 100e6
    assert found.error is not None and found.error.kind == "ratio"


# --- shapes ---


@pytest.mark.parametrize(
    ("architecture", "modules", "per_rank", "largest"),
    [
        ("sd15", 264, 589_824, (10240, 1280)),
        ("sdxl", 986, 3_563_008, (10240, 1280)),
        ("flux", 304, 4_786_176, (21504, 3072)),
        ("wan", 400, 4_792_320, (13824, 5120)),
        ("qwen-image", 720, 6_635_520, (12288, 3072)),
    ],
)
def test_module_counts_and_shapes_are_the_models(
    architecture: str, modules: int, per_rank: int, largest: tuple[int, int]
):
    found = shapes.ARCHITECTURES[architecture]()
    assert len({name for name, *_ in found}) == len(found) == modules
    assert shapes.parameters(found, 1) == per_rank
    assert max((rows, columns) for _, rows, columns, _ in found) == largest


# --- tables ---


def test_table_and_json_list_every_result(files: list[Path], tmp_path: Path):
    tool = ["QR float32", "dense SVD"]
    todo = list(table.jobs(files, ["add_svd", "concat"], tool, Setting(rank=2), 1, full=False))
    assert [(one.work, one.tool, one.whole, one.sample) for one in todo] == [
        ("add_svd", ours.NAME, True, True),
        ("add_svd", "QR float32", True, False),
        ("add_svd", "dense SVD", False, True),
        ("concat", ours.NAME, True, True),
    ]
    results = list(table.compare(todo, job.run, lambda line: None))
    text = report.markdown(results, "what", "machine")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["work", "tool", "load to save", "times ours", "memory", "error"]
    assert [row[:2] for row in rows[1:]] == [[one.work, one.tool] for one in todo]
    assert "(extrapolated from 3 of 4 modules)" in rows[3][2]
    assert "extrapolated" not in rows[1][2] + rows[2][2] + rows[4][2]
    assert rows[1][3] == rows[4][3] == "1.00"
    assert rows[4][5].endswith("of the whole")
    written = report.write(results, "what", "machine", tmp_path / "results", "tiny")
    assert written[0].read_text("utf-8") == text
    assert len(json.loads(written[1].read_text("utf-8"))["results"]) == 4
    pytest.importorskip("matplotlib", reason="matplotlib draws the picture")
    assert report.draw(results, "what", tmp_path / "tiny.png").stat().st_size


def test_ratios_compare_times_of_the_same_modules():
    def result(tool: str, seconds: float, sample: float, measured: int) -> job.Result:
        return job.Result("add_svd", tool, 10, measured, seconds=seconds, sample_seconds=sample)

    all_, some = result(ours.NAME, 4.0, 2.0, 10), result("dense SVD", 100.0, 90.0, 3)
    assert report.ratio(some, [all_, some]) == 45.0
    assert report.ratio(result("QR float32", 8.0, 0.0, 10), [all_]) == 2.0
    assert report.ratio(job.Result("add_svd", "PEFT", failed="no"), [all_]) is None


def test_a_failure_is_reported_in_the_result(files: list[Path]):
    result = job.run(a_job(files, "add_svd", "QR float32", whole=True, sample=False))
    assert not result.failed
    broken = files[0].with_name("other.safetensors")
    broken.write_bytes(b"no safetensors")
    assert "Error" in job.run(a_job([broken], "concat", ours.NAME)).failed


def test_jobs_and_results_survive_json(files: list[Path]):
    one = a_job(files, "add_svd", ours.NAME, least={"a": 1.0})
    assert job.job_from(job.to_json(one)) == one
    result = job.Result("add_svd", "PEFT", error=accuracy.Error("ratio", 1.5), least={"a": 2.0})
    assert job.result_from(job.to_json(result)) == result


def test_the_machine_is_described_on_one_line():
    line = machine.describe("cpu", 3)
    assert "3 threads used" in line and f"torch {torch.__version__}" in line and "\n" not in line


def test_scaling_measures_each_point_once(tmp_path: Path):
    plan = scaling.Plan(tmp_path, "sd15", "float16", 2, 2, 2, (1, 2), (2, 3), (1, 2))
    assert len(plan.points()) == 6
    ran: list[job.Job] = []

    def run(one: job.Job) -> job.Result:
        ran.append(one)
        return job.run(one)

    points = scaling.measure(plan, ["concat"], ["naive concat"], Setting(2), run, log=lambda line: None)
    assert len(points) == 12 and not any(point.result.failed for point in points)
    assert len(ran) == 8, "a point shared by two axes was measured twice"
    text = scaling.markdown(points, "what", "machine")
    assert (
        "| rank | 1 | 2 |" in text and "| number of LoRAs | 2 | 3 |" in text and "| number of modules | 1 | 2 |" in text
    )
    pytest.importorskip("matplotlib", reason="matplotlib draws the picture")
    assert all(path.stat().st_size for path in scaling.write(points, "what", "machine", tmp_path / "out"))


def test_options_are_parsed_and_errors_are_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = program._parser(False).parse_args(["--works", "add_svd,ties", "--peers", "none", "--full"])
    assert (options.works, options.peers, options.full) == (["add_svd", "ties"], [], True)
    assert program._parser(True).parse_args(["--ranks", "1,2"]).ranks == (1, 2)
    assert program.main([str(tmp_path / "missing.safetensors")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        program._parser(False).parse_args(["--works", "nothing"])
    assert "'nothing' is not one of add_svd" in capsys.readouterr().err
