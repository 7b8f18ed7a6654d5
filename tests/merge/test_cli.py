"""python -m merge: the files it writes, what it prints, and errors as one line and exit code 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lora_pack.merge.__main__ import main as program
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.cli.input_files import InputFile, parse_input
from lora_pack.merge.cli.program import main
from lora_pack.merge.files import load, save
from lora_pack.merge.inspecting.inspect import inspect
from lora_pack.merge.inspecting.report import as_json
from lora_pack.merge.merging.resize import resize
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import LINEAR, SHAPES, TEXT, at, down_of, fingerprint, make_lora, of_modules, up_of
from lora_pack.tests.support.merging import ALL_MODES, merge
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, named here, with a.safetensors and b.safetensors in it."""
    tmp_path = tmp_path / "here"
    tmp_path.mkdir()
    for name, seed, rank in (("a", 1, 3), ("b", 2, 4)):
        save(make_lora(seed, name=name, ranks=[rank], alphas=[2.0]), tmp_path / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return main(arguments)


def inputs(*strengths: tuple[float, float]) -> list[Lora]:
    return [at(load(Path(f"{name}.safetensors")), *s) for name, s in zip("ab", strengths, strict=False)]


def assert_same_factors(found: Lora, expected: Lora) -> None:
    assert list(found.modules) == list(expected.modules)
    for name, module in found.modules.items():
        assert torch.equal(up_of(module), up_of(expected.modules[name])), name
        assert torch.equal(down_of(module), down_of(expected.modules[name])), name
        assert module.alpha == expected.modules[name].alpha


@pytest.mark.parametrize("mode", ALL_MODES)
def test_merge_gives_the_result_of_every_mode(mode: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--mode", mode, "--density", "0.5", "--rank", "3", "--conv-rank", "2", "--seed", "1"]
    assert run("merge", "a.safetensors:0.8", "b.safetensors:-0.5", *options, "-o", "out.safetensors") == 0
    expected = merge(mode, inputs((0.8, 0.8), (-0.5, -0.5)), 0.5, rank=3, conv_rank=2, seed=1)
    assert_same_factors(load(folder / "out.safetensors"), expected)
    assert "out.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, model, clip",
    [
        ("a.safetensors", 1.0, 1.0),
        ("a.safetensors:0.8", 0.8, 0.8),
        ("a.safetensors:0.8:0.5", 0.8, 0.5),
        ("a.safetensors:-1", -1.0, -1.0),
        ("a.safetensors:-.5:+2", -0.5, 2.0),
        ("a.safetensors:1e-1:-1.5e0", 0.1, -1.5),
        ("a.safetensors:1:0", 1.0, 0.0),
        ("a.safetensors:0:1", 0.0, 1.0),
        ("./a.safetensors:2.", 2.0, 2.0),
    ],
)
def test_strengths_are_read_from_the_end_of_a_path(text: str, model: float, clip: float, folder: Path):
    assert run("merge", text, "-o", "out.safetensors") == 0
    written = load(folder / "out.safetensors")
    lora = load(folder / "a.safetensors")
    for name, module in lora.modules.items():
        strength = clip if name == TEXT else model
        if strength == 0:
            assert name not in written.modules
        else:
            expected = strength * oracle.module_delta(module)
            assert oracle.distance(oracle.module_delta(written.modules[name]), expected) < 1e-6


def test_a_path_may_hold_colons(tmp_path: Path):
    path = save(make_lora(1), tmp_path / "12:30" / "a.safetensors")
    if not path.is_file():
        pytest.skip("file names can't hold a colon here")
    assert run("merge", f"{path}:0.5", "-o", str(tmp_path / "out.safetensors")) == 0
    module = load(tmp_path / "out.safetensors").modules[LINEAR]
    assert oracle.distance(oracle.module_delta(module), 0.5 * oracle.module_delta(load(path).modules[LINEAR])) < 1e-6


@pytest.mark.parametrize(
    "text, expected",
    [
        (r"C:\x.safetensors:0.8", InputFile(Path(r"C:\x.safetensors"), 0.8, 0.8)),
        (r"C:\x.safetensors", InputFile(Path(r"C:\x.safetensors"))),
        (r"C:\my loras\x:0.8:0.5", InputFile(Path(r"C:\my loras\x"), 0.8, 0.5)),
        ("D:/x.SAFETENSORS:1:mid=0", InputFile(Path("D:/x.SAFETENSORS"), 1, 1, "%mid=0")),
        ("12:30/a.pt:.5", InputFile(Path("12:30/a.pt"), 0.5, 0.5)),
        ("no ending:.5", InputFile(Path("no ending"), 0.5, 0.5)),
        ("a.safetensors:0.8:mid=0,out1-3=0.5", InputFile(Path("a.safetensors"), 0.8, 0.8, "%mid=0,out1-3=0.5")),
        ("a.safetensors:%default=0,mid=1", InputFile(Path("a.safetensors"), 1, 1, "%default=0,mid=1")),
        ("a.safetensors:1:0:SD-OUT", InputFile(Path("a.safetensors"), 1, 0, "SD-OUT")),
        ("a.safetensors:1,0,0.5", InputFile(Path("a.safetensors"), 1, 1, "1,0,0.5")),
    ],
)
def test_paths_strengths_and_block_weights_are_told_apart(text: str, expected: InputFile):
    assert parse_input(text) == expected


def test_block_weights_remove_a_block(folder: Path):
    middle, out = (
        f"lora_unet_{block}_attentions_0_transformer_blocks_0_attn1_to_q" for block in ("mid_block", "up_blocks_1")
    )
    lora = make_lora(1, shapes={middle: (1280, 1280), out: (1280, 1280)}, ranks=[2])
    save(lora, folder / "sd15.safetensors")
    assert run("merge", "sd15.safetensors:0.8:mid=0,out=0.5", "-o", "out.safetensors") == 0
    written = load(folder / "out.safetensors").modules
    assert set(written) == {out}
    expected = 0.8 * 0.5 * oracle.module_delta(lora.modules[out])
    assert oracle.distance(oracle.module_delta(written[out]), expected) < 1e-6


@pytest.mark.parametrize(
    "arguments, shown",
    [
        (["merge"], ["concat)", "0.6)", "32)", "(default: 0)", "a.safetensors:0.8:mid=0"]),
        (["resize"], ["16)", "0.9)", "--method sv_fro"]),
        (["replay"], ["cpu)", "--loras ComfyUI"]),
        (["info"], ["trainer)", "info a.safetensors"]),
    ],
)
def test_help_shows_defaults_and_examples(arguments: list[str], shown: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run(*arguments, "--help")
    out = capsys.readouterr().out
    assert not [text for text in shown if text not in out]
    assert "None" not in out and "SUPPRESS" not in out


@pytest.mark.parametrize("method, value", [("fixed", 0.9), ("sv_ratio", 2.0), ("sv_cumulative", 0.6), ("sv_fro", 0.8)])
def test_resize_gives_the_result_of_every_method(method: str, value: float, folder: Path):
    options = ["--rank", "2", "--conv-rank", "3", "--method", method, "--value", str(value)]
    assert run("resize", "b.safetensors", *options, "-o", "out.safetensors") == 0
    expected = resize(load(folder / "b.safetensors"), 2, 3, method, value)
    assert_same_factors(load(folder / "out.safetensors"), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("command", ["merge", "resize"])
def test_the_output_has_the_chosen_dtype(command: str, dtype: str, folder: Path):
    assert run(command, "a.safetensors", "--dtype", dtype, "-o", "out.safetensors") == 0
    assert {m.up.dtype for m in load(folder / "out.safetensors").modules.values()} == {getattr(torch, dtype)}


def test_the_output_is_overwritten_only_with_overwrite(folder: Path, capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        assert run("merge", "a.safetensors", "-o", "out.safetensors") == 0
    assert "out_00002.safetensors" in capsys.readouterr().out
    before = fingerprint(load(folder / "out_00002.safetensors"))
    assert run("merge", "a.safetensors:2", "-o", "out.safetensors", "--overwrite") == 0
    assert sorted(p.name for p in folder.glob("out*")) == ["out.safetensors", "out_00002.safetensors"]
    assert fingerprint(load(folder / "out_00002.safetensors")) == before
    assert fingerprint(load(folder / "out.safetensors")) != before


def test_info_prints_ranks_alphas_dtypes_and_short_metadata(folder: Path, capsys: pytest.CaptureFixture[str]):
    lora = make_lora(
        3, ranks=[2, 5], alphas=[1.5], dtype=torch.float16, metadata={"ss_note": "hello", "long": "x" * 999}
    )
    save(lora, folder / "c.safetensors")
    assert run("info", "a.safetensors", "c.safetensors") == 0
    out = capsys.readouterr().out
    first, second = out.split("c.safetensors")
    assert "a.safetensors" in first
    for word in ("LoRA", f"{len(SHAPES) - 1} of the model", "1 of text encoders", "2 (3x)", "5 (3x)", "1.5", "float16"):
        assert word in second, word
    assert "ss_note: hello" in second and "x" * 999 not in second


def test_info_says_in_one_line_how_a_file_was_made(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run("merge", "a.safetensors:0.5", "b.safetensors", "--mode", "add_svd", "-o", "sum.safetensors") == 0
    assert run("resize", "sum.safetensors", "--rank", "2", "-o", "small.safetensors") == 0
    capsys.readouterr()
    assert run("info", "sum.safetensors", "small.safetensors") == 0
    out = capsys.readouterr().out
    assert "  made by: add_svd, a x 0.5, b x 1.0\n" in out
    assert "  made by: resize to rank 2, sum (made by add_svd)\n" in out
    assert '"operation"' not in out


ERRORS = {
    "a missing file": (["merge", "missing.safetensors", "-o", "out.safetensors"], "missing"),
    "a missing file with a strength": (["merge", "missing.safetensors:0.5", "-o", "out.safetensors"], "missing"),
    "a strength that is not a number": (
        ["merge", "a.safetensors:much", "-o", "out.safetensors"],
        "'much' is not a number",
    ),
    "a strength that is too large": (["merge", "a.safetensors:1e999", "-o", "out.safetensors"], "1e999"),
    "a third strength": (["merge", "a.safetensors:1:1:1", "-o", "out.safetensors"], "two strengths"),
    "a colon without a strength": (["merge", "a.safetensors:", "-o", "out.safetensors"], "last colon"),
    "a block": (["merge", "a.safetensors:1:attic=0", "-o", "out.safetensors"], "attic"),
    "an output folder": (["merge", "a.safetensors", "-o", "outptu/out.safetensors"], "outptu"),
    "an output folder of resize": (["resize", "a.safetensors", "-o", "outptu/out.safetensors"], "outptu"),
    "an output folder of replay": (["replay", "a.safetensors", "-o", "outptu/out.safetensors"], "outptu"),
    "a parameter of another mode": (
        ["merge", "a.safetensors", "--mode", "np_svd", "--set", "iso_blend=0.5", "-o", "out.safetensors"],
        "np_svd has no such parameter; its parameters are np_mu",
    ),
    "a parameter without a value": (
        ["merge", "a.safetensors", "--mode", "np_svd", "--set", "np_mu", "-o", "out.safetensors"],
        "NAME=VALUE",
    ),
    "a parameter that is not a number": (
        ["merge", "a.safetensors", "--mode", "np_svd", "--set", "np_mu=much", "-o", "out.safetensors"],
        "'much' is not a number",
    ),
    "a parameter out of range": (
        ["merge", "a.safetensors", "--mode", "iso_svd", "--set", "iso_blend=nan", "-o", "out.safetensors"],
        "iso_blend is nan; it must be between 0 and 1",
    ),
    "a broken file": (["merge", "a.safetensors", "broken.safetensors", "-o", "out.safetensors"], "broken"),
    "a folder": (["info", "folder.safetensors"], "folder"),
    "a mode": (["merge", "a.safetensors", "--mode", "sum", "-o", "out.safetensors"], "sum"),
    "a density": (["merge", "a.safetensors", "--mode", "ties", "--density", "1.5", "-o", "out.safetensors"], "1.5"),
    "density 0": (
        ["merge", "a.safetensors", "--mode", "ties_svd", "--density", "0", "-o", "o.safetensors"],
        "--density is 0",
    ),
    "a rank": (["merge", "a.safetensors", "--mode", "ties_svd", "--rank", "-1", "-o", "out.safetensors"], "-1"),
    "a new rank": (["resize", "a.safetensors", "--rank", "0", "-o", "out.safetensors"], "0"),
    "a method": (["resize", "a.safetensors", "--method", "best", "-o", "out.safetensors"], "best"),
    "a value": (["resize", "a.safetensors", "--method", "sv_fro", "--value", "7", "-o", "out.safetensors"], "7"),
    "an ending": (["merge", "a.safetensors", "-o", "out.ckpt"], "out.ckpt"),
    "a device": (["merge", "a.safetensors", "--device", "toaster", "-o", "out.safetensors"], "toaster"),
    "a device without memory": (["merge", "a.safetensors", "--device", "meta", "-o", "out.safetensors"], "meta"),
    "a file that isn't there": (["merge", "gone.safetensors", "-o", "out.safetensors"], "gone.safetensors in here."),
    "a folder as output": (
        ["merge", "a.safetensors", "--overwrite", "-o", "folder.safetensors"],
        "folder.safetensors can't be written into here: ",
    ),
    "a model that isn't there": (["bake", "gone.safetensors", "a.safetensors", "-o", "out.safetensors"], "in here."),
    "two models": (["merge", "a.safetensors", "sdxl.safetensors", "-o", "out.safetensors"], "sdxl"),
    "nothing to save": (["merge", "a.safetensors:0", "-o", "out.safetensors"], "no weights to save"),
    "a file in the way": (["merge", "a.safetensors", "-o", "a.safetensors/out.safetensors"], "a.safetensors"),
}


@pytest.mark.parametrize("arguments, named", ERRORS.values(), ids=ERRORS)
def test_errors_are_one_line(arguments: list[str], named: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "broken.safetensors").write_bytes(b"<html>")
    (folder / "folder.safetensors").mkdir()
    save(of_modules(make_lora(1, shapes={LINEAR: (14, 12)}).modules.values()), folder / "sdxl.safetensors")
    before = sorted(folder.iterdir())
    assert run(*arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    message = [line for line in printed.err.splitlines() if "error" in line]
    assert len(message) == 1 and named in message[0]
    assert "Traceback" not in printed.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("arguments", [ERRORS["an ending"][0], ERRORS["a mode"][0], ERRORS["a density"][0]])
def test_wrong_options_are_reported_before_any_work(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def late(*_: object) -> None:
        raise AssertionError("the work had begun")

    for work in ("lora_pack.merge.merging.merge_loop.attempt", "lora_pack.merge.merging.resize.attempt"):
        monkeypatch.setattr(work, late)
    assert run(*arguments) == 1


@pytest.mark.parametrize("arguments", [[], ["paint"], ["merge"], ["merge", "a.safetensors"], ["--help"]])
def test_wrong_arguments_print_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run(*arguments)
    printed = capsys.readouterr()
    assert "usage: python -m merge" in printed.out + printed.err


@pytest.mark.slow
def test_python_m_merge_works_from_the_repository(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As the README says, from the repository: exit codes, and no traceback."""

    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # for the same rounding

    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "merge", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    a, b, out = (str(folder / f"{name}.safetensors") for name in ("a", "b", "out"))
    done = process(
        "merge", f"{a}:0.8:0.5", f"{b}:-1", "--mode", "ties_svd", "--density", "0.5", "--seed", "1", "-o", out
    )
    assert (done.returncode, done.stdout.count("out.safetensors")) == (0, 1)
    assert_same_factors(load(Path(out)), merge("ties_svd", inputs((0.8, 0.5), (-1, -1)), 0.5, rank=32, conv_rank=0))
    failed = process("resize", str(folder / "missing.safetensors"), "-o", out)
    assert failed.returncode == 1
    assert "missing" in failed.stderr and "Traceback" not in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_closed_pipe_ends_info_without_a_traceback(tmp_path: Path):
    path = save(make_lora(1, metadata={str(n): "x" * 150 for n in range(2000)}), tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "merge", "info", str(path)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.wait() == 1 and running.stderr.read() == ""
    running.stderr.close()


def test_inspect_prints_a_report_and_writes_json_and_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert program(["inspect", "a.safetensors:0.5", "b.safetensors", "--json", "ab.json", "--picture", "ab.png"]) == 0
    printed = capsys.readouterr().out
    assert "A: a" in printed and "A and B" in printed
    found = json.loads((folder / "ab.json").read_text("utf-8"))
    expected = as_json(inspect(inputs((0.5, 0.5), (1.0, 1.0))))
    assert found == json.loads(json.dumps(expected))
    with Image.open(folder / "ab.png") as picture:
        assert picture.width == 1000 and picture.height > 500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--picture", "ab.foo"], "ab.foo can't be written"),
        (["--picture", "nowhere/ab.png"], "no folder nowhere"),
        (["--json", "nowhere/ab.json"], "no folder nowhere"),
        (["--json", "b.safetensors"], "--json would write into b.safetensors, which looks like a LoRA file"),
        (["--picture", "b.SAFETENSORS"], "--picture would write into b.SAFETENSORS, which looks like a LoRA file"),
    ],
)
def test_inspect_refuses_files_that_it_cannot_write_and_lora_files(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    """`inspect --json b.safetensors a.safetensors`, meant as a switch and two LoRAs, must not replace b."""
    before = (folder / "b.safetensors").read_bytes()
    assert program(["inspect", *options, "a.safetensors"]) == 1
    assert message in capsys.readouterr().err
    assert (folder / "b.safetensors").read_bytes() == before


def test_the_picture_is_drawn_by_the_program_that_people_start(folder: Path):
    """python -m merge, where merge and pictures are both at the top level."""
    command = [sys.executable, "-m", "merge", "inspect", "a.safetensors", "--picture", "a.png"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and (folder / "a.png").is_file()


def test_the_core_has_no_picture_without_pictures(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run("inspect", "a.safetensors", "--picture", "a.png") == 1
    assert "run python -m merge from the pack's folder" in capsys.readouterr().err
    assert run("inspect", "a.safetensors") == 0
