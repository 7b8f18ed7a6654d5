"""A fused weight whose rows a trainer may have sorted in another order: the LoRA says so, since no name does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_pack.merge.cli.program import main
from lora_pack.merge.formats import from_state_dict
from safetensors.torch import save_file
from torch import Tensor

QKV, OUT = ("blocks.0.attn.qkv_proj", (21504, 5376)), ("blocks.0.attn.out_proj", (5376, 7168))


def lora(down: str, up: str, *modules: tuple[str, tuple[int, int]], prefix: str = "") -> dict[str, Tensor]:
    tensors = {}
    for name, (rows, columns) in modules:
        tensors |= {f"{prefix}{name}{down}": torch.ones(2, columns), f"{prefix}{name}{up}": torch.ones(rows, 2)}
    return tensors


DIFFSYNTH = (".lora_A.default.weight", ".lora_B.default.weight")
PEFT = (".lora_A.weight", ".lora_B.weight")


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_a_minimax_h3_lora_of_diffsynth_is_doubtful(prefix: str):
    (note,) = from_state_dict(lora(*DIFFSYNTH, QKV, OUT, prefix=prefix), "video").notes
    assert f"{prefix}blocks.0.attn.qkv_proj are sorted by head" in note


@pytest.mark.parametrize(
    "tensors",
    [
        lora(*PEFT, QKV, OUT),
        lora(*DIFFSYNTH, OUT),
        lora(*DIFFSYNTH, ("transformer_blocks.0.attn.to_q", (7168, 5376)), prefix="transformer."),
        lora(*DIFFSYNTH, ("double_blocks.0.img_attn.qkv", (9216, 3072))),
    ],
    ids=["another trainer", "no fused weight", "separate q, k and v", "another family"],
)
def test_others_are_not(tensors: dict[str, Tensor]):
    assert from_state_dict(tensors, "video").notes == ()


def test_the_command_line_says_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    save_file(lora(*DIFFSYNTH, QKV, OUT), tmp_path / "video.safetensors")
    path = str(tmp_path / "video.safetensors")
    assert main(["merge", path, path, "--mode", "concat", "--output", str(tmp_path / "merged.safetensors")]) == 0
    assert "sorted by head" in capfd.readouterr().out
