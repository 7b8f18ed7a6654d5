"""python -m merge resize --as lora: every kind of adapter as a plain LoRA, with what was lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lora_pack.merge.adapters.base import LoraModule
from lora_pack.merge.cli.program import main
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.merge.merging.resize import resize
from lora_pack.tests.support import families
from safetensors.torch import load_file, save_file

KINDS = {
    "LoHa": families.loha,
    "dense LoHa": families.dense_loha,
    "Tucker LoHa": families.tucker_loha,
    "LoKr": families.lokr,
    "Tucker LoKr": families.tucker_lokr,
    "whole LoKr": families.whole_lokr,
    "difference": families.difference,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_a_plain_lora_near_the_best_at_its_rank(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    save_file(KINDS[kind](3), "a.safetensors")
    assert main(["resize", "a.safetensors", "--as", "lora", "--rank", "4", "-o", "out.safetensors"]) == 0
    (before,), (after,) = load(Path("a.safetensors")).modules.values(), load(Path("out.safetensors")).modules.values()
    assert isinstance(after, LoraModule) and after.rank <= 4
    endings = {key.removeprefix(after.name) for key in load_file("out.safetensors")}
    assert endings == {".lora_up.weight", ".lora_down.weight", ".alpha"}
    exact = before.dense().double().numpy()
    values = np.linalg.svd(exact, compute_uv=False)
    lost = np.linalg.norm(exact - after.dense().double().numpy()) / np.linalg.norm(exact)
    best = np.sqrt((values[4:] ** 2).sum() / (values**2).sum())
    assert lost == pytest.approx(best, abs=1e-4)
    printed = capsys.readouterr().out
    told = float(printed.rstrip().splitlines()[-1].removesuffix(" % of the norm lost"))
    assert told == pytest.approx(100 * best, abs=0.06)


def test_biases_and_norms_are_left_out_and_named(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    norm = {key: tensor for key, tensor in families.norm(5).items()}
    save_file(families.lokr(3) | {"lora_unet_conv_norm_out.diff": torch.ones(8)}, "a.safetensors")
    save_file(norm, "b.safetensors")
    assert main(["resize", "a.safetensors", "--rank", "4", "-o", "kept.safetensors"]) == 0
    assert len(load(Path("kept.safetensors")).modules) == 2
    assert main(["resize", "a.safetensors", "--as", "lora", "--rank", "4", "-o", "plain.safetensors"]) == 0
    assert len(load(Path("plain.safetensors")).modules) == 1
    assert "lora_unet_conv_norm_out left out" in capsys.readouterr().out
    with pytest.raises(LoraError, match="only biases, norms"):
        resize(load(Path("b.safetensors")), 4, as_lora=True)


def test_a_plain_lora_made_of_another_kind_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save_file(families.lokr(3) | {"lora_unet_conv_norm_out.diff": torch.ones(8)}, "a.safetensors")
    assert main(["resize", "a.safetensors", "--as", "lora", "--rank", "4", "-o", "plain.safetensors"]) == 0
    assert main(["replay", "plain.safetensors"]) == 0
