"""The names that modules get in written files: loadable everywhere, or in one style."""

from __future__ import annotations

from fractions import Fraction

import pytest
from lora_pack.merge.names import (
    RowRange,
    Target,
    loadable,
    style_name,
    style_names,
)
from lora_pack.tests.support.architectures import (
    BY_NAME,
    CLIP,
    CLIP_FLAT,
    STYLES,
    T5,
    T5_FLAT,
    UNET_OWN,
    UNET_Q,
)

LOADABLE = [
    ("SD 1.5", f"unet.{UNET_Q}", "lora_unet_" + UNET_Q.replace(".", "_")),
    ("SD 1.5", "unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.proj_in"),
    ("SD 1.5", f"diffusion_model.{UNET_OWN}", f"diffusion_model.{UNET_OWN}"),
    ("SD 1.5", f"text_encoder.{CLIP}", f"text_encoder.{CLIP}"),
    ("SD 1.5", f"clip_l.{CLIP}", f"lora_te_{CLIP_FLAT}"),
    ("SDXL", f"base_model.model.text_encoder_2.{CLIP}", f"lora_te2_{CLIP_FLAT}"),
    ("Flux", "transformer.transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.0.attn.to_q"),
    ("Flux", "transformer_blocks.0.attn.to_q", "transformer.transformer_blocks.0.attn.to_q"),
    ("Flux", "lora_unet_transformer_blocks_0_attn_to_q", "lycoris_transformer_blocks_0_attn_to_q"),
    ("Flux", "double_blocks.0.img_attn.qkv", "lora_unet_double_blocks_0_img_attn_qkv"),
    ("Flux", f"text_encoder_2.{T5}", f"lora_te3_{T5_FLAT}"),
    ("Flux 2", "transformer.transformer_blocks.0.ff.linear_in", "lora_unet_double_blocks_0_img_mlp_0"),
    ("Wan 2.1/2.2 14B", "blocks.0.self_attn.q", "lora_unet_blocks_0_self_attn_q"),
    ("Wan 2.1/2.2 14B", "lora_unet__blocks_0_self_attn_q", "lora_unet_blocks_0_self_attn_q"),
    ("Wan 2.1/2.2 14B", "transformer.blocks.0.attn1.to_q", "lora_unet_blocks_0_self_attn_q"),
    ("Qwen-Image", "transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q"),
    ("Z-Image", "layers.0.attention.to_q", "diffusion_model.layers.0.attention.to_q"),
    ("Z-Image", "lora_unet_layers_0_attention_to_q", "lycoris_layers_0_attention_to_q"),
    ("HunyuanVideo", "transformer.double_blocks.0.img_attn_qkv", "transformer.double_blocks.0.img_attn_qkv"),
    ("HunyuanImage 2.1", "transformer.double_blocks.0.img_attn_qkv", "lora_unet_double_blocks_0_img_attn_qkv"),
    # no name of these has the same target in every ComfyUI
    ("Lumina 2", "transformer.layers.0.attn.to_k", "transformer.layers.0.attn.to_k"),
    # not in the tables: unchanged if the prefix is generic, else kohya's prefix and the weight's own path
    ("Wan 2.1/2.2 14B", "diffusion_model.something.new", "diffusion_model.something.new"),
    ("Wan 2.1/2.2 14B", "something.new", "lora_unet_something_new"),
]


@pytest.mark.parametrize(("architecture", "name", "written"), LOADABLE)
def test_loadable_name(architecture: str, name: str, written: str):
    assert loadable(name, BY_NAME[architecture]) == written


IN_STYLES = [
    # architecture, name, kohya, peft, comfyui
    (
        "SD 1.5",
        f"diffusion_model.{UNET_OWN}",
        ["lora_unet_" + UNET_Q.replace(".", "_"), f"unet.{UNET_Q}", f"diffusion_model.{UNET_OWN}"],
    ),
    (
        "SDXL",
        f"unet.{UNET_Q}",
        ["lora_unet_" + UNET_OWN.replace(".", "_"), f"unet.{UNET_Q}", f"diffusion_model.{UNET_OWN}"],
    ),
    (
        "SD 1.5",
        f"lora_te_{CLIP_FLAT}",
        [f"lora_te_{CLIP_FLAT}", f"text_encoder.{CLIP}", f"text_encoders.clip_l.transformer.{CLIP}"],
    ),
    (
        "SDXL",
        f"lora_te_{CLIP_FLAT}",
        [f"lora_te1_{CLIP_FLAT}", f"text_encoder.{CLIP}", f"text_encoders.clip_l.transformer.{CLIP}"],
    ),
    (
        "Flux",
        f"lora_te2_{T5_FLAT}",
        [f"lora_te3_{T5_FLAT}", f"text_encoder_2.{T5}", f"text_encoders.t5xxl.transformer.{T5}"],
    ),
    (
        "SDXL",
        "text_encoders.clip_l.transformer.text_model.final_layer_norm",
        [None, "text_encoder.text_model.final_layer_norm"]
        + ["text_encoders.clip_l.transformer.text_model.final_layer_norm"],
    ),
    (
        "Flux",
        "lora_unet_double_blocks_0_img_attn_qkv",
        ["lora_unet_double_blocks_0_img_attn_qkv", None, "diffusion_model.double_blocks.0.img_attn.qkv"],
    ),
    (
        "Flux",
        "lora_transformer_transformer_blocks_0_attn_to_q",
        [None, "transformer.transformer_blocks.0.attn.to_q", None],
    ),
    ("Flux", "transformer.norm_out.linear", [None, "transformer.norm_out.linear", None]),
    (
        "Wan 2.2 5B",
        "lora_unet_blocks_0_ffn_2",
        ["lora_unet_blocks_0_ffn_2", "transformer.blocks.0.ffn.net.2", "diffusion_model.blocks.0.ffn.2"],
    ),
    ("Wan 2.2 5B", "lora_unet_blocks_0_new_thing", ["lora_unet_blocks_0_new_thing", None, None]),
]


@pytest.mark.parametrize(("architecture", "name", "expected"), IN_STYLES, ids=lambda value: str(value)[:40])
def test_style_name_in_each_style(architecture: str, name: str, expected: list[str | None]):
    assert [style_name(name, BY_NAME[architecture], style) for style in STYLES] == expected


def test_a_fused_weight_has_a_name_for_each_part_in_diffusers_style():
    third = Fraction(1, 3)
    flux = BY_NAME["Flux"]
    assert style_names("model:double_blocks_0_txt_attn_qkv", flux, "peft") == [
        (
            f"transformer.transformer_blocks.0.attn.add_{x}_proj",
            Target("model:double_blocks_0_txt_attn_qkv", RowRange(i * third, i * third + third)),
        )
        for i, x in enumerate("qkv")
    ]
    seventh = Fraction(1, 7)
    assert [
        (name.split(".", 3)[-1], t.rows.start, t.rows.stop)
        for name, t in style_names("model:single_blocks_0_linear1", flux, "peft")
    ] == [
        ("attn.to_q", 0, seventh),
        ("attn.to_k", seventh, 2 * seventh),
        ("attn.to_v", 2 * seventh, 3 * seventh),
        ("proj_mlp", 3 * seventh, 1),
    ]
    final = "model:final_layer_adaLN_modulation_1"
    assert style_names(final, flux, "peft") == [("transformer.norm_out.linear", Target(final, swapped=True))]
    whole = Target("model:double_blocks_0_txt_attn_qkv")
    assert style_names(whole.weight, flux, "kohya") == [("lora_unet_double_blocks_0_txt_attn_qkv", whole)]
    assert style_names("model:nothing_known", flux, "peft") == []
