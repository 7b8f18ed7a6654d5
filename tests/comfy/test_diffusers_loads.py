"""Exchange with diffusers' own load_lora_weights, on a pipeline with SD 1.5's structure: files written by either mean
the same to the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lora_pack.merge.adapters.base import Lora, LoraModule
from lora_pack.merge.files import load, save
from lora_pack.merge.formats.peft_dora import PeftDora
from lora_pack.merge.merging.merge_factors import merge_factors
from torch import nn

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """SD 1.5's widths with half its layers. The weights are uninitialised: only what the LoRA adds matters."""
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
    """A LoRA with kohya names for every attention layer of the U-Net and the text encoder."""
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
            modules[name] = LoraModule.of(name, up, down, 1.5)
    return Lora("made", modules)


def test_diffusers_applies_the_merged_delta_to_every_layer(pipeline: Any, tmp_path: Path):
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


# --- the scale that the trainer intended ---

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"lora_alpha": 6},
    "alpha is the rank": {"lora_alpha": 4},
    "rsLoRA": {"lora_alpha": 6, "use_rslora": True},
    "ranks of their own": {"lora_alpha": 6, "rank_pattern": {"attn2.to_q": 2, "layers.3.self_attn.q_proj": 3}},
    "alphas of their own": {"lora_alpha": 6, "alpha_pattern": {"attn2.to_q": 1, "layers.3.self_attn.q_proj": 9}},
    "DoRA": {"lora_alpha": 6, "use_dora": True},
}
WRITTEN = "pytorch_lora_weights.safetensors"
Deltas = dict[str, torch.Tensor]


def parts(pipeline: Any) -> dict[str, nn.Module]:
    return {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}


def full_path(path: str) -> str:
    """A layer's path as in files; newer text encoders lack a level."""
    return path.replace("text_encoder.encoder", "text_encoder.text_model.encoder")


def weights(pipeline: Any) -> dict[str, torch.Tensor]:
    targets = [
        (part, layers(model, "to_q", "self_attn.q_proj", "self_attn.out_proj"))
        for part, model in parts(pipeline).items()
    ]
    return {f"{part}.{path}": layer.weight.detach() for part, found in targets for path, layer in found.items()}


@pytest.fixture
def bare(pipeline: Any) -> Iterator[Any]:
    """The pipeline without adapters, before and after. Its q layers have weights: DoRA's delta depends on them."""
    pipeline.unload_lora_weights()
    noise = torch.Generator().manual_seed(7)
    for weight in weights(pipeline).values():
        weight.copy_(torch.randn(weight.shape, generator=noise) * 0.02)
    yield pipeline
    pipeline.unload_lora_weights()


def changes(pipeline: Any, adapter: str) -> Deltas:
    """The deltas of an adapter loaded into diffusers, by layer, including DoRA magnitudes."""
    found = {}
    for part, model in parts(pipeline).items():
        for path, module in model.named_modules():
            if adapter in getattr(module, "lora_A", {}):
                layer = cast(Any, module)
                base, change = layer.get_base_layer().weight, layer.get_delta_weight(adapter)
                if adapter in layer.lora_magnitude_vector:
                    whole = base + change
                    norms = torch.linalg.vector_norm(whole, dim=1, keepdim=True)
                    change = layer.lora_magnitude_vector[adapter].weight[:, None] * whole / norms - base
                found[full_path(f"{part}.{path}")] = change
    return {path: change.detach().clone() for path, change in found.items()}


def trained(pipeline: Any, folder: Path, options: dict[str, Any]) -> Deltas:
    """Writes a LoRA like diffusers' training scripts, with its configuration in the header. Returns its deltas."""
    training = pytest.importorskip("diffusers.training_utils")
    torch.manual_seed(3)
    trained_parts = parts(pipeline)
    if "use_dora" in options:  # diffusers drops the text encoder's magnitudes
        del trained_parts["text_encoder"]
    for part, model in trained_parts.items():
        # diffusers recognises kohya's text encoder layers by their out_proj
        targets = ["to_q"] if part == "unet" else ["q_proj", "out_proj"]
        config = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **options)
        peft.inject_adapter_in_model(config, model)
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.data *= 1 + torch.rand(parameter.shape)
    wanted = changes(pipeline, "default")
    states = {}
    for part, model in trained_parts.items():
        state = peft.get_peft_model_state_dict(model)
        is_short = part == "text_encoder" and not next(iter(state)).startswith("text_model")
        states[f"{part}_lora_layers"] = {f"text_model.{key}" if is_short else key: state[key] for key in state}
    pipeline.save_lora_weights(folder, **states, **training._collate_lora_metadata(trained_parts))
    pipeline.unload_lora_weights()
    return wanted


def loaded(pipeline: Any, written: Path) -> Deltas:
    pipeline.load_lora_weights(written.parent, weight_name=written.name, adapter_name="again")
    found = changes(pipeline, "again")
    pipeline.unload_lora_weights()
    return found


def assert_same(found: Deltas, wanted: Deltas) -> None:
    assert found.keys() == wanted.keys()
    for path, change in wanted.items():
        assert float((found[path] - change).norm() / change.norm()) <= 1e-5, path


def ours(lora: Lora, pipeline: Any) -> Deltas:
    base = {full_path(path): weight for path, weight in weights(pipeline).items()}
    found = {full_path(module.name): module for module in lora.modules.values()}
    return {
        path: module.change_of(base[path]) if isinstance(module, PeftDora) else module.dense()
        for path, module in found.items()
    }


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_training_header_gives_the_same_deltas_as_in_diffusers(bare: Any, options: dict[str, Any], tmp_path: Path):
    wanted = trained(bare, tmp_path, options)
    assert_same(loaded(bare, tmp_path / WRITTEN), wanted)
    assert_same(ours(load(tmp_path / WRITTEN), bare), wanted)


@pytest.mark.parametrize("style", ["peft", "kohya"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_saved_file_gives_diffusers_the_same_deltas(bare: Any, options: dict[str, Any], style: Any, tmp_path: Path):
    """A stale header would be applied a second time by diffusers, or conflict with the alphas."""
    if style == "kohya" and "use_dora" in options:
        pytest.skip("the kohya style has no magnitudes")
    if style == "kohya" and "alpha_pattern" in options:
        pytest.skip("with kohya names diffusers takes one alpha for all U-Net layers (see its _get_alpha_name)")
    wanted = trained(bare, tmp_path / "a", options)
    written = save(load(tmp_path / "a" / WRITTEN), tmp_path / "b" / "saved.safetensors", style=style)
    assert_same(loaded(bare, written), wanted)
