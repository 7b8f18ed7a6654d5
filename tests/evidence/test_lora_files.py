"""Trained factors are saved as trainers save them, and what a file adds to the base is read as ComfyUI reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.evidence import loras, merges
    from benchmarks.evidence.lora_files import FORMS, read_deltas, write_lora
    from benchmarks.evidence.settings import Setting
finally:
    sys.path.remove(str(ROOT))

WEIGHTS = {
    "joint_blocks.0.x_block.attn.qkv.weight": torch.zeros(48, 16),
    "joint_blocks.0.context_block.mlp.fc2.weight": torch.zeros(16, 64),
    "joint_blocks.1.x_block.adaLN_modulation.1.weight": torch.zeros(96, 16),
}


def factors_of(recipe: loras.Recipe) -> dict[str, dict[str, torch.Tensor]]:
    noise = torch.Generator().manual_seed(5)
    first = loras.first_factors(WEIGHTS, recipe)
    return {
        weight: {part: torch.randn(tensor.shape, generator=noise).half().float() for part, tensor in parts.items()}
        for weight, parts in first.items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_file_adds_what_was_trained(form: str, tmp_path: Path):
    recipe = loras.Recipe("&", rank=4, alpha=6.0, form=form)
    factors = factors_of(recipe)
    write_lora(tmp_path / "a.safetensors", factors, recipe.alpha, form, {})
    deltas = read_deltas(tmp_path / "a.safetensors", WEIGHTS)
    assert set(deltas) == set(WEIGHTS)
    for weight, parts in factors.items():
        assert torch.allclose(deltas[weight], loras.delta_of(parts, recipe.alpha), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_pack_reads_the_same_deltas(form: str, tmp_path: Path):
    recipe = loras.Recipe("&", rank=4, alpha=6.0, form=form)
    write_lora(tmp_path / "a.safetensors", factors_of(recipe), recipe.alpha, form, {})
    merges.merge([(tmp_path / "a.safetensors", 0.5)], Setting("concat"), tmp_path / "half.safetensors")
    whole = read_deltas(tmp_path / "a.safetensors", WEIGHTS)
    half = read_deltas(tmp_path / "half.safetensors", WEIGHTS)
    assert set(half) == set(whole)
    for weight in whole:
        assert torch.allclose(half[weight], whole[weight] / 2, atol=1e-4)


def test_a_tensor_for_no_weight_of_the_base_is_refused(tmp_path: Path):
    save_file({"lora_unet_other.lora_up.weight": torch.ones(2, 1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="no weight for lora_unet_other"):
        read_deltas(tmp_path / "a.safetensors", WEIGHTS)


def test_a_module_that_lacks_a_factor_is_refused(tmp_path: Path):
    name = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    save_file({f"{name}.lora_up.weight": torch.ones(48, 16)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="neither a LoRA nor a LoKr"):
        read_deltas(tmp_path / "a.safetensors", WEIGHTS)


def test_a_lokr_file_has_lycoris_names(tmp_path: Path):
    recipe = loras.Recipe("&", rank=2, form="lokr")
    write_lora(tmp_path / "a.safetensors", factors_of(recipe), recipe.alpha, "lokr", {})
    endings = {key.partition(".")[2] for key in load_file(tmp_path / "a.safetensors")}
    assert endings == {"lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"}
