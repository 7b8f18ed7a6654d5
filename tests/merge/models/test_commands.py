"""python -m merge bake and extract: the file it writes, what it prints, and errors as one line and exit code 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_pack.merge.cli.program import main
from lora_pack.merge.files import load
from lora_pack.merge.models.bake import bake
from lora_pack.tests.support.models import contents, lora_of, sdxl, write

TO_Q = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
TE1 = "lora_te1_text_model_encoder_layers_0_mlp_fc1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and two LoRAs in it; the second changes a weight that the model lacks."""
    write(tmp_path / "model.safetensors", sdxl())
    write(tmp_path / "a.safetensors", lora_of({TO_Q: (16, 16), TE1: (20, 10)}))
    write(tmp_path / "b.safetensors", lora_of({TO_Q: (16, 16), "lora_unet_middle_block_1_proj_in": (8, 8)}, seed=200))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_bake_takes_strengths_and_names_what_the_model_lacks(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        main(["bake", "model.safetensors", "a.safetensors:0.8:0.5", "b.safetensors:-1", "-o", "out.safetensors"]) == 0
    )
    loras = [load(folder / f"{name}.safetensors") for name in "ab"]
    loras = [loras[0].with_strengths(0.8, 0.5), loras[1].with_strengths(-1, -1)]
    bake(folder / "model.safetensors", loras, folder / "expected.safetensors")
    assert (folder / "out.safetensors").read_bytes() == (folder / "expected.safetensors").read_bytes()
    printed = capsys.readouterr().out
    assert "out.safetensors: 2 tensors changed" in printed
    assert "b: lora_unet_middle_block_1_proj_in" in printed


def test_bake_in_another_precision(folder: Path):
    options = ["--dtype", "bfloat16", "-o", "out.safetensors"]
    assert main(["bake", "model.safetensors", "a.safetensors", *options]) == 0
    tensors, _ = contents(folder / "out.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16, torch.float16}


def test_bake_refuses_with_one_line_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bake", "a.safetensors", "b.safetensors", "-o", "out.safetensors"]) == 1
    assert capsys.readouterr().err == (
        "error: a.safetensors is a LoRA. Choose a checkpoint, a diffusion model or a text encoder.\n"
    )
    assert main(["bake", "model.safetensors", "a.safetensors", "-o", "nowhere/out.safetensors"]) == 1
    assert not list(folder.glob("**/out*"))


def test_extract_takes_ranks_and_says_what_was_kept(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bake", "model.safetensors", "a.safetensors", "-o", "tuned.safetensors"]) == 0
    options = ["--rank", "3", "--conv-rank", "2", "--dtype", "float16", "-o", "lora.safetensors"]
    assert main(["extract", "tuned.safetensors", "model.safetensors", *options]) == 0
    modules = load(folder / "lora.safetensors").modules.values()
    assert sorted((module.rank, module.weight_shape) for module in modules) == [(3, (16, 16)), (3, (20, 10))]
    printed = capsys.readouterr().out
    assert "2 modules of rank 3; " in printed and "of the difference's norm kept" in printed


def test_extract_in_kohyas_names_with_a_rank_rule(folder: Path):
    assert main(["bake", "model.safetensors", "a.safetensors", "-o", "tuned.safetensors"]) == 0
    options = ["--rank", "8", "--method", "sv_fro", "--value", "0.5", "--names", "kohya", "-o", "lora.safetensors"]
    assert main(["extract", "tuned.safetensors", "model.safetensors", *options]) == 0
    lora = load(folder / "lora.safetensors")
    assert sorted(lora.modules) == [TE1, TO_Q]
    assert all(module.rank < 8 for module in lora.modules.values())


def test_extract_refuses_with_one_line_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["extract", "model.safetensors", "model.safetensors", "-o", "lora.safetensors"]) == 1
    assert "have the same weights: there is no difference to extract." in capsys.readouterr().err
    assert not (folder / "lora.safetensors").exists()


def test_an_extracted_lora_cannot_be_replayed(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bake", "model.safetensors", "a.safetensors", "-o", "tuned.safetensors"]) == 0
    assert main(["extract", "tuned.safetensors", "model.safetensors", "-o", "lora.safetensors"]) == 0
    assert main(["replay", "lora.safetensors"]) == 1
    assert "lora is the difference of two models. Extract it again" in capsys.readouterr().err
