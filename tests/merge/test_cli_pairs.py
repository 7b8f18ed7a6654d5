"""python -m merge merge --pair: two sets of files with matching names, merged in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_pack.merge.cli.pairs import parse_pair
from lora_pack.merge.cli.program import main
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.tests.support.makers import make_lora

NAMES = ("a_high", "a_low", "B_HIGH_noise", "B_LOW_noise")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(NAMES):
        save(make_lora(seed, name=name, ranks=[3], alphas=[2.0]), tmp_path / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", ["concat", "ties_svd"])
def test_both_files_are_what_two_merges_would_write(mode: str, folder: Path):
    settings = ["--mode", mode, "--density", "0.5", "--rank", "4"]
    high = ["a_high.safetensors:0.8", "B_HIGH_noise.safetensors:-0.5:0"]
    low = ["a_low.safetensors:0.8", "B_LOW_noise.safetensors:-0.5:0"]
    assert main(["merge", *high, "--pair", "high=low", *settings, "-o", "m_high.safetensors"]) == 0
    assert main(["merge", *high, *settings, "-o", "first.safetensors"]) == 0
    assert main(["merge", *low, *settings, "-o", "second.safetensors"]) == 0
    assert Path("m_high.safetensors").read_bytes() == Path("first.safetensors").read_bytes()
    assert Path("m_low.safetensors").read_bytes() == Path("second.safetensors").read_bytes()


def test_an_output_without_the_word_gets_both_words(folder: Path):
    assert main(["merge", "a_high.safetensors", "--pair", "high=low", "-o", "merged.safetensors"]) == 0
    assert sorted(path.name for path in folder.glob("merged*")) == [
        "merged_high.safetensors",
        "merged_low.safetensors",
    ]


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["a_high.safetensors", "--pair", "high"], "write the two words"),
        (["a_high.safetensors", "--pair", "high=High"], "write the two words"),
        (["a_high.safetensors", "--pair", "high=../x"], "can't contain slashes"),
        (["a_high.safetensors", "--pair", "noise=x"], "the name a_high.safetensors doesn't contain 'noise'"),
        (["a_high.safetensors", "--pair", "high=mid"], "there is no file a_mid.safetensors"),
    ],
)
def test_pairs_that_cannot_be_found_are_refused_before_anything_is_written(
    arguments: list[str], problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["merge", *arguments, "-o", "out_high.safetensors"]) == 1
    assert problem in capsys.readouterr().err
    assert not list(folder.glob("out*"))


def test_a_second_merge_that_fails_leaves_nothing_of_the_first(folder: Path):
    save(make_lora(9, shapes={"lora_unet_mid_block_attentions_0_proj_in": (9, 13)}), folder / "c_low.safetensors")
    save(make_lora(8), folder / "c_high.safetensors")
    assert main(["merge", "a_high.safetensors", "c_high.safetensors", "--pair", "high=low", "-o", "o.safetensors"]) == 1
    assert not list(folder.glob("o*"))


def test_the_last_occurrence_of_the_word_counts_in_its_case():
    pair = parse_pair("high=low")
    names = {"high_High": "high_Low", "HIGH": "LOW", "ahighb": "alowb"}
    for name, other in names.items():
        assert pair.outputs(Path(f"x/{name}.safetensors"))[1] == Path(f"x/{other}.safetensors")
    with pytest.raises(LoraError):
        parse_pair("=low")


def test_the_sum_of_the_second_set_has_its_own_deltas(folder: Path):
    assert main(["merge", "a_high.safetensors", "--pair", "high=low", "-o", "m_high.safetensors"]) == 0
    first, second = (load(folder / f"m_{word}.safetensors") for word in ("high", "low"))
    name = next(iter(first.modules))
    assert not torch.equal(first.modules[name].dense(), second.modules[name].dense())
