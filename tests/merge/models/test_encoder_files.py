"""Text encoders as files of their own: their weights are found whichever model a LoRA is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load
from lora_pack.merge.models.bake import bake
from lora_pack.merge.models.extract import extract
from lora_pack.tests.support.models import State, contents, delta_of, lora_of, normal, write

CLIP = "text_model.encoder.layers.0."
T5 = "encoder.block.0.layer."
LLM = "model.layers.0."
# Some weights of the files, under their keys in ComfyUI's text_encoders folder and as wide as they are.
CLIP_L: State = {
    "text_model.embeddings.token_embedding.weight": normal(1, 9, 768),
    f"{CLIP}self_attn.q_proj.weight": normal(2, 768, 768),
    f"{CLIP}self_attn.q_proj.bias": normal(3, 768),
    f"{CLIP}layer_norm1.weight": normal(4, 768),
    f"{CLIP}mlp.fc1.weight": normal(5, 30, 768),
}
T5_XXL: State = {
    "shared.weight": normal(1, 9, 4096),
    f"{T5}0.SelfAttention.q.weight": normal(2, 24, 4096),
    f"{T5}1.DenseReluDense.wi_0.weight": normal(3, 20, 4096),
    f"{T5}1.layer_norm.weight": normal(4, 4096),
}
QWEN: State = {
    "model.embed_tokens.weight": normal(1, 9, 3584),
    f"{LLM}self_attn.q_proj.weight": normal(2, 24, 3584),
    f"{LLM}mlp.up_proj.weight": normal(3, 20, 3584),
}
# Modules of the model itself, which say which one a LoRA is for.
FLUX = "lora_unet_double_blocks_0_img_attn_qkv", (9216, 3072)
FLUX_END = "lora_unet_single_blocks_37_linear1", (21504, 3072)
CASES = {
    "CLIP-L of Flux": (CLIP_L, f"{CLIP}self_attn.q_proj.weight", [FLUX, FLUX_END], "lora_te1_"),
    "CLIP-L alone": (CLIP_L, f"{CLIP}mlp.fc1.weight", [], "lora_te1_"),
    "T5-XXL of Flux": (T5_XXL, f"{T5}0.SelfAttention.q.weight", [FLUX, FLUX_END], "lora_te2_"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_text_encoder_gets_the_sum_and_the_rest_keeps_its_bytes(case: str, tmp_path: Path):
    file, key, others, prefix = CASES[case]
    name = prefix + key.removesuffix(".weight").replace(".", "_")
    tensors = lora_of({**{module: shape for module, shape in others}, name: tuple(file[key].shape)}, rank=1)
    lora = load(write(tmp_path / "a.safetensors", tensors)).with_strengths(1.0, 0.5)
    done = bake(write(tmp_path / "encoder.safetensors", file), [lora], tmp_path / "out.safetensors")
    found = contents(done.path)[0]
    exact = file[key].double() + delta_of(tensors, name, 0.5)
    assert (found[key].double() - exact).abs().max() < 1e-3 * exact.abs().max()
    assert {k for k in file if not torch.equal(file[k], found[k])} == {key}
    assert len(done.notes) == bool(others), "the modules of the diffusion model are named as missing, and nothing else"


def test_a_lora_of_the_diffusion_model_alone_is_refused(tmp_path: Path):
    lora = load(write(tmp_path / "a.safetensors", lora_of(dict([FLUX, FLUX_END]), rank=1)))
    with pytest.raises(LoraError, match=r"encoder.safetensors has none of the 2 weights"):
        bake(write(tmp_path / "encoder.safetensors", T5_XXL), [lora], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    "file, key, prefix",
    [
        (CLIP_L, f"{CLIP}mlp.fc1.weight", "text_encoders.clip_l.transformer."),
        (QWEN, f"{LLM}mlp.up_proj.weight", "text_encoders."),
        (T5_XXL, f"{T5}1.DenseReluDense.wi_0.weight", "text_encoders.transformer."),  # or of UMT5-XXL
    ],
)
def test_the_difference_of_two_encoders_has_comfyuis_names(file: State, key: str, prefix: str, tmp_path: Path):
    tuned = file | {key: file[key] + 0.1 * normal(9, *file[key].shape)}
    lora = extract(write(tmp_path / "tuned.safetensors", tuned), write(tmp_path / "base.safetensors", file), 20)
    (module,) = lora.modules
    assert module.startswith(prefix) and module.endswith(f"transformer.{key.removesuffix('.weight')}")
