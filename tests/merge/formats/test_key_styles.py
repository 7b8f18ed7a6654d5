"""Converting a LoRA to another program's names keeps every change of every weight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lora_pack.merge.adapters.base import Difference, Lora, LoraModule
from lora_pack.merge.errors import LoraError
from lora_pack.merge.files import load, save
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.formats.key_styles import STYLES, convert_keys
from lora_pack.merge.merging.merge_factors import merge_factors
from lora_pack.merge.names import Style, recognise, resolve
from lora_pack.tests.merge.merging.test_aliases import H, acts, close, fused, lora, module, split
from lora_pack.tests.support.makers import down_of, up_of
from lora_pack.tools.make_lora import sd15_modules
from safetensors import safe_open
from torch import Tensor

SD15 = [
    module("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 320, 768, 1),
    module("lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj", 10240, 1280, 2),
    module("lora_te_text_model_encoder_layers_3_self_attn_q_proj", 768, 768, 3),
]
NAMES: dict[Style, list[str]] = {
    "kohya": [m.name for m in SD15],
    "peft": [
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
        "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
        "text_encoder.text_model.encoder.layers.3.self_attn.q_proj",
    ],
    "comfyui": [
        "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k",
        "diffusion_model.middle_block.1.transformer_blocks.0.ff.net.0.proj",
        "text_encoders.clip_l.transformer.text_model.encoder.layers.3.self_attn.q_proj",
    ],
}


def as_lora(m: object) -> LoraModule:
    assert isinstance(m, LoraModule)
    return m


@pytest.mark.parametrize("then", STYLES)
@pytest.mark.parametrize("style", STYLES)
def test_names_of_sd15_survive_a_round_trip_through_any_two_styles(style: Style, then: Style, tmp_path: Path):
    written = save(lora("a", *SD15, strength=0.5), tmp_path / "a.safetensors", style=style)
    assert list(load(written).modules) == NAMES[style]
    again = load(save(load(written), tmp_path / "b.safetensors", style=then))
    assert list(again.modules) == NAMES[then]
    for found, wanted in zip(again.modules.values(), SD15, strict=True):
        assert close(acts(as_lora(found)), 0.5 * acts(wanted))


def test_a_file_in_peft_style_has_peft_keys_and_the_wanted_dtype(tmp_path: Path):
    written = save(lora("a", *SD15, strength=-0.5), tmp_path / "a.safetensors", torch.float16, style="peft")
    with safe_open(written, "pt") as file:
        keys = list(file.keys())
        assert {key.rsplit(".", 2)[1] for key in keys} == {"lora_A", "lora_B"}
        assert {file.get_tensor(key).dtype for key in keys} == {torch.float16}


def test_every_module_of_sd15_has_a_name_in_every_style():
    whole = lora("a", *(module(name, rows, columns, 1, rank=1) for name, rows, columns, _ in sd15_modules()))
    for style in STYLES:
        found = convert_keys(whole, style)
        assert len(found.modules) == len(whole.modules)
        back = convert_keys(found, "kohya")
        assert set(back.modules) == set(whole.modules)


def weights_of(found: Lora) -> dict[str, Tensor]:
    """The change of each weight of the model; parts of a fused weight are in their rows."""
    architecture = recognise({m.name: m.weight_shape for m in found.modules.values()})
    weights: dict[str, Tensor] = {}
    for m in found.modules.values():
        target = resolve(m.name, architecture)
        change = acts(as_lora(m))
        height = int(change.shape[0] / target.rows.size)
        whole = weights.setdefault(target.weight, torch.zeros(height, 3, dtype=torch.float64))
        first = int(target.rows.start * height)
        whole[first : first + change.shape[0]] += change.roll(height // 2, 0) if target.swapped else change
    return weights


@pytest.mark.parametrize("source", ["fused", "split", "some parts"])
@pytest.mark.parametrize("style", STYLES)
def test_fused_weights_of_flux_are_split_or_fused_as_the_style_has_them(style: Style, source: str):
    last = {
        "fused": module("lora_unet_final_layer_adaLN_modulation_1", 2 * H, H, 7),
        "split": module("transformer.norm_out.linear", 2 * H, H, 7),
    }
    single = module("lora_unet_single_blocks_0_linear1", 7 * H, H, 3, rank=1)
    found = {
        "fused": [*fused(1), single, last["fused"]],
        "split": [*split(50), last["split"]],
        "some parts": [*split(50, "qv"), last["split"]],
    }[source]
    before = lora("a", *found)
    after = convert_keys(before, style)
    wanted, got = weights_of(before), weights_of(after)
    assert wanted.keys() == got.keys()
    for weight, change in wanted.items():
        assert close(got[weight], change), weight
    parts = [name for name in after.modules if "to_q" in name or "to_v" in name]
    assert bool(parts) == (style == "peft")


def test_several_parts_of_a_fused_weight_in_one_module_are_split():
    """USO's LoRAs of Flux have q, k and v of linear1 in one module, without the rows of the MLP."""
    qkv = module("diffusion_model.single_blocks.0.linear1_qkv", 3 * H, H, 3)
    after = convert_keys(lora("a", *fused(1), qkv), "peft")
    for part, rows in zip("qkv", acts(qkv).split(H), strict=True):
        name = f"transformer.single_transformer_blocks.0.attn.to_{part}"
        assert close(acts(as_lora(after.modules[name])), rows)


def test_convert_keys_refuses_an_unknown_model():
    unknown = lora("a", module("lora_unet_blocks_of_its_own_1", 8, 8, 1))
    with pytest.raises(LoraError, match="a: its module names don't tell what kind of model"):
        convert_keys(unknown, "peft")


def test_convert_keys_refuses_to_divide_a_weight_dependent_module():
    """GLoRA of to_q, but with kohya's names q, k and v of Flux are one module."""
    name = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {f"{name}.{part}.weight": torch.ones(2, 2) for part in ("a1", "a2", "b1", "b2")}
    whole = lora("a", module("transformer.single_transformer_blocks.0.proj_out", 3072, 15360, 1))
    glora = from_state_dict(tensors, "a")
    mixed = replace(whole, modules=whole.modules | glora.modules)
    with pytest.raises(LoraError, match=f"a: GLoRA module {name} is for rows of a weight"):
        convert_keys(mixed, "kohya")


def test_convert_keys_refuses_modules_that_peft_files_cannot_hold(tmp_path: Path):
    whole = lora("a", *SD15)
    bias = Difference.of(SD15[0].name, torch.ones(320), "bias")
    with pytest.raises(LoraError, match="a: module unet.down_blocks.* .full difference. can't be stored"):
        convert_keys(replace(whole, modules=whole.modules | {bias.key: bias}), "peft")
    kept = convert_keys(replace(whole, modules=whole.modules | {bias.key: bias}), "comfyui")
    assert f"{NAMES['comfyui'][0]}.bias" in kept.modules


def test_loha_becomes_two_factors_in_peft_style():
    noise = torch.Generator().manual_seed(1)

    def values(*size: int) -> Tensor:
        return torch.randn(size, generator=noise) * 0.3

    name = SD15[0].name
    state = {f"{name}.hada_w{n}_a": values(320, 2) for n in (1, 2)}
    state |= {f"{name}.hada_w{n}_b": values(2, 768) for n in (1, 2)} | {f"{name}.alpha": torch.tensor(1.0)}
    for m in SD15[1:]:
        state |= {f"{m.name}.lora_up.weight": up_of(m), f"{m.name}.lora_down.weight": down_of(m)}
    found = from_state_dict(state, "a")
    plain = as_lora(convert_keys(found, "peft").modules[NAMES["peft"][0]])
    wanted = found.modules[name].dense()
    assert plain.rank == 4 and plain.alpha == 4.0
    assert torch.allclose(plain.dense(), wanted, rtol=1e-4, atol=1e-5)


def test_a_merge_of_fused_and_split_weights_converts_to_every_style():
    merged = merge_factors([lora("a", *fused(1)), lora("b", *split(50))])
    wanted = weights_of(merged)
    for style in STYLES:
        got = weights_of(convert_keys(merged, style))
        assert all(close(got[weight], change) for weight, change in wanted.items())
