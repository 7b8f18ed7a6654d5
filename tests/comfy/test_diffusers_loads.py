"""A file in PEFT's names through diffusers' own load_lora_weights, on a pipeline of SD 1.5's build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lora_pack.merge.files import load, save
from lora_pack.merge.lora import Lora, LoraModule
from lora_pack.merge.merger import merge_factors
from torch import nn

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """SD 1.5's widths with half its layers. The weights are never set: only what the LoRA adds is looked at."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=64, num_hidden_layers=12, num_attention_heads=12, vocab_size=100
    )
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280), layers_per_block=1, cross_attention_dim=768, attention_head_dim=8
        )
    unet = unet.to_empty(device="cpu")
    return diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(),
        text_encoder=transformers.CLIPTextModel(config),
        tokenizer=None,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def layers(model: nn.Module, *ends: str) -> dict[str, nn.Linear]:
    return {
        name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and name.endswith(ends)
    }


def lora_for(pipeline: Any, seed: int) -> Lora:
    """In kohya's names, for every attention layer of the U-Net and the text encoder."""
    noise = torch.Generator().manual_seed(seed)
    modules = {}
    for prefix, model, ends in (
        ("lora_unet_", pipeline.unet, (".to_q", ".to_k", ".to_v", ".to_out.0")),
        ("lora_te_", pipeline.text_encoder, ("q_proj", "k_proj", "v_proj", "out_proj")),
    ):
        for path, layer in layers(model, *ends).items():
            path = path if prefix == "lora_unet_" or path.startswith("text_model") else f"text_model.{path}"
            name = prefix + path.replace(".", "_")
            up = torch.randn(layer.out_features, 3, generator=noise) * 0.1
            down = torch.randn(3, layer.in_features, generator=noise) * 0.1
            modules[name] = LoraModule(name, up, down, 1.5)
    return Lora("made", modules)


def test_every_layer_gets_its_change(pipeline: Any, tmp_path: Path):
    loras = [lora_for(pipeline, 1).with_strengths(0.8, 0.5), lora_for(pipeline, 2).with_strengths(-0.4, 1.0)]
    merged = merge_factors(loras, "concat")
    written = save(merged, tmp_path / "merged.safetensors", style="peft")
    pipeline.load_lora_weights(tmp_path, weight_name=written.name, adapter_name="merged")
    found = 0
    for prefix, model in (("lora_unet_", pipeline.unet), ("lora_te_", pipeline.text_encoder)):
        for path, layer in model.named_modules():
            if "merged" in getattr(layer, "lora_A", {}):
                path = path if prefix == "lora_unet_" or path.startswith("text_model") else f"text_model.{path}"
                wanted = merged.modules[prefix + path.replace(".", "_")].dense()
                change = layer.get_delta_weight("merged")
                assert torch.allclose(change, wanted, rtol=1e-4, atol=1e-6), path
                found += 1
    assert found == len(merged.modules)
    assert len(load(written).modules) == found
