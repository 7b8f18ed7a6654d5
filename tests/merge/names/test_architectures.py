"""Resolving names, writing names, and recognising architectures: on names written by hand and on all of the tables.

tests/comfy/test_key_maps.py compares the tables with a real ComfyUI.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_pack.merge.names import (
    ARCHITECTURES,
    Architecture,
    RowRange,
    Style,
    Target,
    candidates,
    compatible,
    find_clash,
    loadable,
    mapped_names,
    prefixes,
    recognise,
    resolve,
    shared_architecture,
    style_name,
    style_names,
)
from lora_pack.merge.names.patterns import Table, block_list, expand, fill
from lora_pack.tests.support.makers import examples

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
STYLES: tuple[Style, ...] = ("kohya", "peft", "comfyui")
Modules = dict[str, tuple[int, ...]]


def rows_of(weight: str, start: str, stop: str) -> Target:
    return Target(weight, RowRange(Fraction(start), Fraction(stop)))


each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)


# ---- one target, many names

CLIP = "text_model.encoder.layers.3.self_attn.q_proj"
CLIP_FLAT = CLIP.replace(".", "_")
T5 = "encoder.block.3.layer.0.SelfAttention.q"
T5_FLAT = T5.replace(".", "_")
UNET_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
UNET_OWN = "input_blocks.4.1.transformer_blocks.0.attn1.to_q"

# architecture, target, names
TARGETS: list[tuple[str, Target, list[str]]] = [
    (
        architecture,
        Target("model:input_blocks_4_1_transformer_blocks_0_attn1_to_q"),
        [
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "lycoris_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
            f"diffusion_model.{UNET_OWN}",
            f"model.diffusion_model.{UNET_OWN}",
            f"unet.{UNET_Q}",
            f"base_model.model.unet.{UNET_Q}",
            f"base_model.model.{UNET_Q}",
            f"unet.base_model.model.{UNET_Q}",
            UNET_Q,
            UNET_OWN,
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q",
        ],
    )
    for architecture in ("SD 1.5", "SD 2", "SDXL")
] + [
    (
        "SD 1.5",
        Target("model:output_blocks_9_1_transformer_blocks_0_attn2_to_out_0"),
        [
            "lora_unet_up_blocks_3_attentions_0_transformer_blocks_0_attn2_to_out_0",
            "unet.up_blocks.3.attentions.0.transformer_blocks.0.attn2.to_out.0",
            "unet.up_blocks.3.attentions.0.transformer_blocks.0.attn2.processor.to_out",
        ],
    ),
    ("SD 1.5", Target("model:output_blocks_2_1_conv"), ["lora_unet_up_blocks_0_upsamplers_0_conv"]),
    ("SDXL", Target("model:output_blocks_2_2_conv"), ["lora_unet_up_blocks_0_upsamplers_0_conv"]),
    ("SD 1.5", Target("model:input_blocks_1_0_in_layers_2"), ["unet.down_blocks.0.resnets.0.conv1"]),
    ("SD 1.5", Target("model:middle_block_2_emb_layers_1"), ["lora_unet_mid_block_resnets_1_time_emb_proj"]),
    ("SD 1.5", Target("model:input_blocks_3_0_op"), ["lora_unet_down_blocks_0_downsamplers_0_conv"]),
    ("SDXL", Target("model:label_emb_0_0"), ["lora_unet_add_embedding_linear_1", "diffusion_model.label_emb.0.0"]),
    (
        "SDXL",
        Target("model:output_blocks_0_1_transformer_blocks_9_ff_net_0_proj"),
        [
            "lora_unet_up_blocks_0_attentions_0_transformer_blocks_9_ff_net_0_proj",
            "unet.up_blocks.0.attentions.0.transformer_blocks.9.ff.net.0.proj",
        ],
    ),
    *[
        (
            architecture,
            Target(f"te1:{CLIP_FLAT}"),
            [
                f"lora_te_{CLIP_FLAT}",
                f"lora_te1_{CLIP_FLAT}",
                f"text_encoder.{CLIP}",
                f"base_model.model.text_encoder.{CLIP}",
                f"base_model.model.{CLIP}",
                CLIP,
                f"te1.{CLIP}",
                f"{encoder}.transformer.{CLIP}",
                f"{encoder}.{CLIP}",
                f"text_encoders.{encoder}.transformer.{CLIP}",
            ],
        )
        for architecture, encoder in [("SD 1.5", "clip_l"), ("SD 2", "clip_h"), ("SDXL", "clip_l"), ("Flux", "clip_l")]
    ],
    *[
        (
            architecture,
            Target(f"te2:{CLIP_FLAT}"),
            [f"lora_te2_{CLIP_FLAT}", f"text_encoder_2.{CLIP}", f"text_encoders.clip_g.transformer.{CLIP}"],
        )
        for architecture in ("SDXL", "SD 3", "SD 3.5 Large")
    ],
    (
        "SD 3",
        Target(f"te3:{T5_FLAT}"),
        [f"lora_te3_{T5_FLAT}", f"text_encoder_3.{T5}", f"t5xxl.transformer.{T5}"]
        + [f"text_encoders.t5xxl.transformer.{T5}", f"text_encoders.transformer.{T5}"],
    ),
    (
        "Flux",
        Target(f"te2:{T5_FLAT}"),
        [f"lora_te2_{T5_FLAT}", f"lora_te3_{T5_FLAT}", f"text_encoder_2.{T5}", f"t5xxl.{T5}"]
        + [f"text_encoders.t5xxl.transformer.{T5}", f"text_encoders.transformer.{T5}"],
    ),
    ("Chroma", Target(f"te1:{T5_FLAT}"), [f"lora_te1_{T5_FLAT}", f"text_encoders.t5xxl.transformer.{T5}"]),
    (
        "Z-Image",
        Target("te1:layers_0_mlp_up_proj"),
        ["lora_te_layers_0_mlp_up_proj", "text_encoders.qwen3_4b.transformer.model.layers.0.mlp.up_proj"],
    ),
    (
        "Flux",
        Target("model:double_blocks_3_img_attn_qkv"),
        [
            "lora_unet_double_blocks_3_img_attn_qkv",
            "diffusion_model.double_blocks.3.img_attn.qkv",
            "transformer.double_blocks.3.img_attn.qkv",
            "double_blocks.3.img_attn.qkv",
        ],
    ),
    (
        "Flux",
        rows_of("model:double_blocks_3_img_attn_qkv", "1/3", "2/3"),
        [
            "transformer.transformer_blocks.3.attn.to_k",
            "transformer_blocks.3.attn.to_k",
            "lora_transformer_transformer_blocks_3_attn_to_k",
            "lycoris_transformer_blocks_3_attn_to_k",
            "lora_unet_transformer_blocks_3_attn_to_k",
            "base_model.model.transformer.transformer_blocks.3.attn.to_k",
            "diffusion_model.transformer_blocks.3.attn.to_k",
        ],
    ),
    (
        "Flux",
        rows_of("model:double_blocks_18_txt_attn_qkv", "2/3", "1"),
        ["transformer.transformer_blocks.18.attn.add_v_proj"],
    ),
    (
        "Flux",
        rows_of("model:single_blocks_37_linear1", "0", "1/7"),
        ["transformer.single_transformer_blocks.37.attn.to_q"],
    ),
    (
        "Chroma",
        rows_of("model:single_blocks_0_linear1", "3/7", "1"),
        ["transformer.single_transformer_blocks.0.proj_mlp", "lycoris_single_transformer_blocks_0_proj_mlp"],
    ),
    (
        "Flux",
        rows_of("model:single_blocks_0_linear1", "0", "3/7"),
        ["diffusion_model.single_blocks.0.linear1_qkv"],
    ),
    (
        "Flux",
        Target("model:final_layer_adaLN_modulation_1", swapped=True),
        ["transformer.norm_out.linear", "lycoris_norm_out_linear"],
    ),
    ("Flux", Target("model:final_layer_adaLN_modulation_1"), ["lora_unet_final_layer_adaLN_modulation_1"]),
    (
        "Flux 2",
        Target("model:single_blocks_47_linear1"),
        ["transformer.single_transformer_blocks.47.attn.to_qkv_mlp_proj", "lora_unet_single_blocks_47_linear1"],
    ),
    ("Flux 2", Target("model:double_blocks_0_img_mlp_0"), ["transformer.transformer_blocks.0.ff.linear_in"]),
    (
        "SD 3",
        rows_of("model:joint_blocks_5_context_block_attn_qkv", "0", "1/3"),
        [
            "transformer.transformer_blocks.5.attn.add_q_proj",
            "base_model.model.transformer_blocks.5.attn.add_q_proj",
            "lora_transformer_transformer_blocks_5_attn_add_q_proj",
        ],
    ),
    (
        "SD 3",
        Target("model:joint_blocks_22_context_block_adaLN_modulation_1"),
        ["transformer.transformer_blocks.22.norm1_context.linear"],
    ),
    (
        "SD 3",
        Target("model:joint_blocks_23_context_block_adaLN_modulation_1", swapped=True),
        ["transformer.transformer_blocks.23.norm1_context.linear"],
    ),
    (
        "SD 3.5 Large",
        Target("model:joint_blocks_37_context_block_adaLN_modulation_1", swapped=True),
        ["transformer.transformer_blocks.37.norm1_context.linear"],
    ),
    (
        "SD 3.5 Large",
        Target("model:joint_blocks_23_context_block_adaLN_modulation_1"),
        ["transformer.transformer_blocks.23.norm1_context.linear"],
    ),
    (
        "Wan 2.1/2.2 14B",
        Target("model:blocks_7_cross_attn_k_img"),
        [
            "diffusion_model.blocks.7.cross_attn.k_img",
            "lora_unet_blocks_7_cross_attn_k_img",
            "lora_unet__blocks_7_cross_attn_k_img",
            "blocks.7.cross_attn.k_img",
            "pipe.dit.blocks.7.cross_attn.k_img",
            "transformer.blocks.7.attn2.add_k_proj",
        ],
    ),
    ("Wan 2.1 1.3B", Target("model:blocks_7_norm3"), ["transformer.blocks.7.norm2", "diffusion_model.blocks.7.norm3"]),
    (
        "Qwen-Image",
        Target("model:transformer_blocks_0_attn_add_k_proj"),
        [
            "transformer_blocks.0.attn.add_k_proj",
            "transformer.transformer_blocks.0.attn.add_k_proj",
            "diffusion_model.transformer_blocks.0.attn.add_k_proj",
            "lora_unet_transformer_blocks_0_attn_add_k_proj",
            "lycoris_transformer_blocks_0_attn_add_k_proj",
        ],
    ),
    (
        "HunyuanVideo",
        Target("model:double_blocks_0_img_attn_qkv"),
        ["transformer.double_blocks.0.img_attn_qkv", "lora_unet_double_blocks_0_img_attn_qkv"],
    ),
    (
        "HunyuanVideo",
        Target("model:single_blocks_39_modulation_lin"),
        ["diffusion_model.single_blocks.39.modulation.linear", "transformer.single_transformer_blocks.39.norm.linear"],
    ),
    (
        "Z-Image",
        rows_of("model:layers_0_attention_qkv", "2/3", "1"),
        ["diffusion_model.layers.0.attention.to_v", "transformer.layers.0.attention.to_v", "layers.0.attention.to_v"]
        + ["lora_unet_layers_0_attention_to_v", "lycoris_layers_0_attention_to_v"],
    ),
    (
        "Z-Image",
        Target("model:layers_0_attention_out"),
        ["diffusion_model.layers.0.attention.to_out.0", "diffusion_model.layers.0.attention.out"],
    ),
    (
        "Lumina 2",
        rows_of("model:layers_0_attention_qkv", "3/5", "4/5"),
        ["transformer.layers.0.attn.to_k", "diffusion_model.layers.0.attention.to_k"],
    ),
    (
        "LTX-Video",
        Target("model:transformer_blocks_0_attn1_to_q"),
        ["transformer.transformer_blocks.0.attn1.to_q", "diffusion_model.transformer_blocks.0.attn1.to_q"],
    ),
    ("LTX-Video", Target("model:patchify_proj"), ["transformer.proj_in", "lora_unet_patchify_proj"]),
    (
        "LTX 2",
        Target("model:audio_embeddings_connector_transformer_1d_blocks_0_attn1_to_k"),
        ["diffusion_model.connectors.audio_connector.transformer_blocks.0.attn1.to_k"]
        + ["connectors.audio_connector.transformer_blocks.0.attn1.to_k"]
        + ["diffusion_model.audio_embeddings_connector.transformer_1d_blocks.0.attn1.to_k"],
    ),
    (
        "Wan 2.1/2.2 14B",
        rows_of("model:face_adapter_fuser_blocks_3_linear1_kv", "1/2", "1"),
        ["transformer.face_adapter.3.to_v"],
    ),
    (
        "Wan 2.1/2.2 14B",
        Target("model:motion_encoder_enc_net_app_convs_1_conv2_1"),
        ["transformer.motion_encoder.res_blocks.0.conv2"],
    ),
    (
        "HunyuanVideo 1.5",
        rows_of("model:double_blocks_0_img_attn_qkv", "0", "1/3"),
        ["lora_unet_double_blocks_0_img_attn_q", "double_blocks.0.img_attn_q", "unet.transformer_blocks.0.attn.to_q"],
    ),
    (
        "HunyuanImage 2.1",
        Target("model:time_r_in_in_layer"),
        ["transformer.time_guidance_embed.timestep_embedder_r.linear_1", "lora_unet_time_r_in_mlp_0"],
    ),
    (
        "Cosmos 7B",
        Target("model:blocks_block12_blocks_1_block_attn_to_k_0"),
        ["diffusion_model.blocks.block12.blocks.1.block.attn.to_k.0", "transformer.transformer_blocks.12.attn2.to_k"],
    ),
    (
        "Anima/Cosmos Predict2 2B",
        Target("model:blocks_3_cross_attn_output_proj"),
        ["net.blocks.3.cross_attn.output_proj", "lora_unet_blocks_3_cross_attn_output_proj"]
        + ["transformer.transformer_blocks.3.attn2.to_out.0", "lycoris_transformer_blocks_3_attn2_to_out_0"],
    ),
    (
        "Anima/Cosmos Predict2 2B",
        Target("model:llm_adapter_blocks_0_self_attn_q_proj"),
        ["text_conditioner.blocks.0.self_attn.q_proj", "lora_unet_llm_adapter_blocks_0_self_attn_q_proj"],
    ),
    ("Mochi", Target("model:blocks_0_mlp_x_w1", swapped=True), ["transformer.transformer_blocks.0.ff.net.0.proj"]),
    ("Mochi", Target("model:blocks_47_mod_y"), ["transformer.transformer_blocks.47.norm1_context.linear_1"]),
    (
        "CogVideoX 2B",
        Target("model:time_embedding_linear_1"),
        ["transformer.time_embedding.linear_1", "lora_unet_time_embedding_linear_1"],
    ),
    (
        "ACE-Step 1.5",
        Target("model:decoder_layers_0_self_attn_q_proj"),
        ["base_model.model.layers.0.self_attn.q_proj", "lycoris_layers_0_self_attn_q_proj"]
        + ["layers.0.self_attn.q_proj", "transformer.layers.0.self_attn.to_q"]
        + ["diffusion_model.decoder.layers.0.self_attn.q_proj"],
    ),
    (
        "Stable Audio",
        rows_of("model:transformer_layers_0_cross_attn_to_kv", "0", "1/2"),
        ["transformer.transformer_blocks.0.attn2.to_k"],
    ),
    (
        "Stable Audio",
        Target("model:transformer_layers_0_cross_attn_to_kv"),
        ["transformer.layers.0.cross_attn.to_kv", "diffusion_model.transformer.layers.0.cross_attn.to_kv"],
    ),
    ("MiniMax H3", Target("model:blocks_0_mlp_fc1", swapped=True), ["transformer.transformer_blocks.0.ff.net.0.proj"]),
    # text encoders
    (
        "HunyuanVideo",
        Target("te:llama_transformer_model_layers_0_mlp_up_proj"),
        ["lora_te1_layers_0_mlp_up_proj", "text_encoder.layers.0.mlp.up_proj"]
        + ["text_encoders.llama.transformer.model.layers.0.mlp.up_proj"]
        + ["text_encoders.transformer.model.layers.0.mlp.up_proj"],
    ),
    ("HunyuanVideo", Target(f"te1:{CLIP_FLAT}"), [f"lora_te2_{CLIP_FLAT}", f"lora_te1_{CLIP_FLAT}"]),
    ("HiDream I1", Target("te:llama_transformer_model_norm"), ["lora_te4_model_norm", "text_encoder_4.model.norm"]),
    (
        "Qwen-Image",
        Target("te1:layers_0_self_attn_q_proj"),
        ["lora_te_model_language_model_layers_0_self_attn_q_proj", "lora_te_layers_0_self_attn_q_proj"]
        + ["text_encoders.qwen25_7b.transformer.model.language_model.layers.0.self_attn.q_proj"]
        + ["text_encoder.model.layers.0.self_attn.q_proj"],
    ),
    (
        "Qwen-Image",
        Target("te1:visual_blocks_0_attn_qkv"),
        ["text_encoder.model.visual.blocks.0.attn.qkv"]
        + ["text_encoders.qwen25_7b.transformer.visual.blocks.0.attn.qkv"],
    ),
    ("SDXL", Target(f"te1:{CLIP_FLAT}"), [f"text_encoder.{CLIP.removeprefix('text_model.')}"]),
    ("SD 3", Target(f"te3:{T5_FLAT}"), [f"lora_te2_{T5_FLAT}"]),
    (
        "Stable Cascade C",
        Target(f"te1:{CLIP_FLAT}"),
        [f"lora_prior_te_{CLIP_FLAT}", f"lora_te_{CLIP_FLAT}", f"text_encoders.clip_g.transformer.{CLIP}"],
    ),
    (
        "HunyuanDiT",
        Target("te1:encoder_layer_0_attention_self_query"),
        ["lora_te1_encoder_layer_0_attention_self_query", "text_encoder.encoder.layer.0.attention.self.query"]
        + ["text_encoders.hydit_clip.transformer.bert.encoder.layer.0.attention.self.query"],
    ),
    (
        "NewBie",
        Target("te1:layers_0_self_attn_q_proj"),
        ["text_encoders.gemma.transformer.model.layers.0.self_attn.q_proj", "lora_te_layers_0_self_attn_q_proj"]
        + ["text_encoders.gemma3_4b_vision.transformer.model.layers.0.self_attn.q_proj"],
    ),
    (
        "ACE-Step 1.5",
        Target("te:qwen3_2b_transformer_model_layers_0_self_attn_q_proj"),
        ["text_encoders.transformer.model.layers.0.self_attn.q_proj"]
        + ["text_encoders.qwen3_2b.transformer.model.layers.0.self_attn.q_proj"],
    ),
    (
        "LTX 2",
        Target("te:text_embedding_projection"),
        ["text_encoders.text_embedding_projection", "connectors.text_proj_in"]
        + ["text_embedding_projection.aggregate_embed"],
    ),
    (
        "MiniMax Music 3",
        Target("te1:audio_decoder_layers_0_self_attn_q_proj"),
        ["text_encoders.model.audio_decoder.layers.0.self_attn.q_proj"],
    ),
]


@pytest.mark.parametrize(
    ("architecture", "target", "name"),
    [(BY_NAME[architecture], target, name) for architecture, target, names in TARGETS for name in names],
    ids=lambda value: getattr(value, "name", None) or str(value),
)
def test_every_name_has_the_right_target_and_its_loadable_name_the_same(
    architecture: Architecture, target: Target, name: str
):
    assert resolve(name, architecture) == target
    assert resolve(loadable(name, architecture), architecture) == target
    assert prefixes.is_text_encoder(name) == target.weight.startswith("te")


def test_without_an_architecture_names_resolve_to_their_own_flat_path():
    assert resolve("transformer.transformer_blocks.0.attn.to_q", None) == Target("model:transformer_blocks_0_attn_to_q")
    assert loadable("unet.down_blocks.0.resnets.0.conv1", None) == "lora_unet_down_blocks_0_resnets_0_conv1"
    assert style_name("lora_unet_anything", None, "kohya") == "lora_unet_anything"
    assert style_name("lora_unet_anything", None, "peft") is None
    assert style_name("text_encoders.clip_l.transformer.x", None, "peft") is None


# ---- names to write

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


# ---- all of the tables


@cache
def weights_of(architecture: Architecture, every_block: bool = False) -> list[tuple[str, dict[str, str]]]:
    """Every weight's pattern with numbers: of all blocks, or of the first, the second and the last."""
    found: list[tuple[str, dict[str, str]]] = []
    for pattern in architecture.weights:
        values: dict[str, list[int]] = {"n": [0, 1, 2], "m": [0, 1]}
        if "{b}" in pattern:
            count = architecture.blocks[block_list(pattern)]
            values["b"] = list(range(count)) if every_block else sorted({0, 1, count - 1} & set(range(count)))
        used = [placeholder for placeholder in values if f"{{{placeholder}}}" in pattern]
        for chosen in itertools.product(*(values[placeholder] for placeholder in used)):
            numbers = dict(zip(used, map(str, chosen), strict=True))
            if architecture.own_paths.find(fill(pattern, numbers).replace(".", "_")) == (pattern, numbers):
                found.append((pattern, numbers))  # otherwise a pattern with fewer placeholders matches this path
    return found


@cache
def modules_of(architecture: Architecture, every_block: bool = False) -> Modules:
    """All linear layers with a known shape, by their own path under `diffusion_model.`."""
    return {
        "diffusion_model." + fill(pattern, numbers): architecture.shapes[pattern]
        for pattern, numbers in weights_of(architecture, every_block)
        if pattern in architecture.shapes
    }


@cache
def candidates_of_all(architecture: Architecture) -> tuple[Architecture, ...]:
    return candidates(modules_of(architecture, every_block=True))


@each_architecture
def test_no_two_weights_share_a_canonical_name(architecture: Architecture):
    names = [fill(*weight) for weight in weights_of(architecture)]
    targets = [resolve("diffusion_model." + name, architecture) for name in names]
    assert all(target.is_whole for target in targets)
    assert len(set(targets)) == len(set(names))
    assert {target.weight for target in targets} == {"model:" + name.replace(".", "_") for name in names}


@each_architecture
def test_every_alias_resolves_to_its_rows_under_every_prefix(architecture: Architecture):
    for pattern, numbers in weights_of(architecture):
        weight = "model:" + fill(pattern, numbers).replace(".", "_")
        for alias in architecture.aliases_by_weight.get(pattern, ()):
            target = Target(weight, alias.rows, alias.swapped)
            path = fill(alias.path, numbers)
            for prefix in {"transformer.", "unet.", "", "diffusion_model.", "lora_unet_", "lycoris_", *alias.prefixes}:
                name = prefix + (path.replace(".", "_") if prefix.endswith("_") else path)
                if ".processor." in path and prefix.endswith("_"):
                    continue  # nobody writes this
                assert resolve(name, architecture) == target, name
                assert resolve(loadable(name, architecture), architecture) == target, name
            names = set(mapped_names(target, architecture))
            assert {loadable(name, architecture) for name in names} == names


@each_architecture
@pytest.mark.parametrize("style", STYLES)
def test_style_names_cover_every_weight_once_and_resolve_back(architecture: Architecture, style: Style):
    written: dict[str, str] = {}
    for pattern, numbers in weights_of(architecture):
        weight = "model:" + fill(pattern, numbers).replace(".", "_")
        parts = style_names(weight, architecture, style)
        for name, target in parts:
            assert resolve(name, architecture) == target
            assert style_name(target, architecture, style) == name
            assert written.setdefault(name, weight) == weight
        if parts and not parts[0][1].swapped:
            edges = [edge for _, target in parts for edge in (target.rows.start, target.rows.stop)]
            assert edges[0] == 0 and edges[-1] == 1 and edges[1:-1:2] == edges[2:-1:2]
        if style == "kohya":
            assert len(parts) == 1
    named = any(alias.diffusers for aliases in architecture.aliases_by_weight.values() for alias in aliases)
    assert bool(written) == (named or style != "peft")  # diffusers doesn't have some models


@each_architecture
@pytest.mark.parametrize("style", STYLES)
def test_style_names_of_text_encoders_resolve_back(architecture: Architecture, style: Style):
    for encoder in architecture.encoders:
        for pattern in expand(*encoder.weights):
            dotted = fill(pattern, {"n": "3"})
            name = encoder.prefix + dotted
            target = resolve(name, architecture)
            assert target.weight.startswith(f"{encoder.component}:") and target.is_whole
            assert loadable(name, architecture) == name
            in_style = style_name(target, architecture, style)
            assert in_style is None or resolve(in_style, architecture) == target
            assert in_style == encoder.comfyui_prefix + dotted or style != "comfyui"
            assert all(resolve(other, architecture) == target for other in mapped_names(target, architecture))


# ---- recognition


def clip(prefix: str, width: int) -> Modules:
    return {
        f"{prefix}text_model_encoder_layers_0_{m}": (width, width) for m in ("self_attn_q_proj", "self_attn_v_proj")
    }


SD15: Modules = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (320, 768),
    "lora_unet_down_blocks_0_attentions_0_proj_in": (320, 320, 1, 1),
    **clip("lora_te_", 768),
}
SDXL: Modules = {
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": (640, 640),
    "lora_unet_mid_block_attentions_0_transformer_blocks_9_attn1_to_q": (1280, 1280),
}
FLUX: Modules = {
    **{f"lora_unet_double_blocks_{i}_img_attn_qkv": (9216, 3072) for i in range(19)},
    **{f"lora_unet_single_blocks_{i}_linear1": (21504, 3072) for i in range(38)},
}
QWEN: Modules = {f"transformer_blocks.{i}.attn.add_k_proj": (3072, 3072) for i in range(60)}
WAN: Modules = {f"diffusion_model.blocks.{i}.self_attn.q": (5120, 5120) for i in range(40)}
Z_IMAGE: Modules = {
    **{f"diffusion_model.layers.{i}.attention.to_q": (3840, 3840) for i in range(30)},
    "diffusion_model.layers.0.feed_forward.w1": (10240, 3840),
    "diffusion_model.layers.0.adaLN_modulation.0": (15360, 256),
}

RECOGNISED: dict[str, tuple[Modules, str | None]] = {
    # as files of trainers are
    "SD 1.5 LoCon, kohya": (
        SD15
        | {
            "lora_unet_down_blocks_0_resnets_0_conv1": (320, 320, 3, 3),
            "lora_unet_down_blocks_0_downsamplers_0_conv": (320, 320, 3, 3),
            "lora_unet_down_blocks_0_resnets_0_time_emb_proj": (320, 1280),
        },
        "SD 1.5",
    ),
    "SDXL, kohya, down_blocks": (SDXL, "SDXL"),
    "SDXL, kohya, input_blocks": ({"lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k": (640, 2048)}, "SDXL"),
    "Flux, kohya": (FLUX, "Flux"),
    "Qwen-Image-Edit, bare": (QWEN, "Qwen-Image"),
    "Wan 2.2": (WAN, "Wan 2.1/2.2 14B"),
    "Z-Image": (Z_IMAGE, "Z-Image"),
    # U-Nets by the width of the text, then by the width and depth of a layer
    "SD 2": ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 1024)}, "SD 2"),
    "SD 1.5, one attention": ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 768)}, "SD 1.5"),
    "SDXL, one attention": ({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 2048)}, "SDXL"),
    "SD 1.5 by the width of a layer": ({"lora_unet_up_blocks_1_attentions_0_proj_in": (1280, 1280)}, "SD 1.5"),
    "SDXL by the width of a layer": (
        {
            "lora_unet_up_blocks_1_attentions_0_proj_in": (640, 640),
            "lora_unet_up_blocks_1_attentions_2_proj_in": (640, 640),
        },
        "SDXL",
    ),
    "SDXL or KOALA, which number this layer differently": (
        {"lora_unet_up_blocks_1_attentions_0_proj_in": (640, 640)},
        None,
    ),
    "SDXL by its second text encoder": (
        {"lora_unet_mid_block_attentions_0_proj_in": (1280, 1280), **clip("lora_te2_", 1280)},
        "SDXL",
    ),
    "SD 1.5 or SDXL": ({"lora_unet_mid_block_attentions_0_proj_in": (1280, 1280)}, None),
    "SD 2 by its text encoder": (clip("lora_te_", 1024), "SD 2"),
    "the first text encoder alone": (clip("lora_te_", 768), None),
    "both text encoders": (clip("lora_te1_", 768) | clip("lora_te2_", 1280), None),
    "T5 as the second": ({"lora_te2_encoder_block_0_layer_0_SelfAttention_q": (4096, 4096)}, "Flux"),
    # diffusers' transformers, which share many names
    "SD 3 Medium": ({f"transformer.transformer_blocks.{i}.attn.to_q": (1536, 1536) for i in range(24)}, "SD 3"),
    "SD 3.5 Large": ({"transformer.transformer_blocks.0.attn.to_q": (2432, 2432)}, "SD 3.5 Large"),
    "Flux, diffusers": (
        {
            "transformer.transformer_blocks.0.attn.to_q": (3072, 3072),
            "transformer.single_transformer_blocks.37.attn.to_q": (3072, 3072),
        },
        "Flux",
    ),
    "LongCat-Image with its biases": (
        {
            f"diffusion_model.{block_list}.{i}.{layer}": shape
            for block_list, count, layer, shape in [
                ("double_blocks", 10, "img_attn.qkv", (9216, 3072)),
                ("double_blocks", 10, "img_attn.qkv.bias", (9216,)),
                ("single_blocks", 20, "linear1", (21504, 3072)),
                ("single_blocks", 20, "linear1.bias", (21504,)),
            ]
            for i in range(count)
        },
        "LongCat-Image",
    ),
    "Flux or Ovis-Image, which has more rows in linear1": (
        {"transformer.single_transformer_blocks.0.attn.to_q": (3072, 3072)},
        None,
    ),
    "Ovis-Image, diffusers": (
        {f"transformer.single_transformer_blocks.{i}.attn.to_q": (3072, 3072) for i in range(27)},
        "Ovis-Image",
    ),
    "Flux, two single blocks": (
        {f"transformer.single_transformer_blocks.{i}.proj_out": (3072, 15360) for i in (7, 20)},
        "Flux",
    ),
    "Flux, double blocks alone": (
        {f"transformer.transformer_blocks.{i}.attn.to_q": (3072, 3072) for i in range(19)},
        "Flux",
    ),
    "Flux, context": ({"transformer.transformer_blocks.18.ff_context.net.2": (3072, 12288)}, "Flux"),
    "Flux or Qwen-Image": ({"transformer.transformer_blocks.0.attn.to_q": (3072, 3072)}, None),
    "Flux, diffusers' prefix and ComfyUI's path": ({"transformer.double_blocks.0.img_attn.qkv": (9216, 3072)}, "Flux"),
    "Flux control": ({"double_blocks.0.img_mod.lin": (18432, 3072), "img_in": (3072, 128)}, "Flux"),
    "Chroma": (
        FLUX | {"lora_unet_distilled_guidance_layer_layers_0_in_layer": (5120, 5120)},
        "Chroma",
    ),
    "Flux 2": ({"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj": (55296, 6144)}, "Flux 2"),
    "Flux 2 Klein 4B": (
        {"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj": (27648, 3072)},
        "Flux 2 Klein 4B",
    ),
    "Flux 2 Klein 4B, own paths": ({"diffusion_model.single_blocks.0.linear1": (27648, 3072)}, "Flux 2 Klein 4B"),
    "Flux 2 Klein 9B": ({"diffusion_model.double_blocks.0.img_attn.qkv": (12288, 4096)}, "Flux 2 Klein 9B"),
    "Flux 2 Klein 9B, kohya": ({"lora_unet_double_blocks_0_img_attn_qkv": (12288, 4096)}, "Flux 2 Klein 9B"),
    "Joy-Image, the original's paths": ({"double_blocks.0.img_attn_qkv": (12288, 4096)}, "Joy-Image"),
    "HunyuanVideo by its number of blocks": ({"lora_unet_single_blocks_39_linear2": (3072, 15360)}, "HunyuanVideo"),
    "HunyuanVideo by diffusion-pipe's names": (
        {"transformer.double_blocks.0.img_attn_qkv": (9216, 3072)},
        "HunyuanVideo",
    ),
    "HunyuanVideo by Tencent's names of layers": (
        {"lora_unet_double_blocks_0_img_mlp_fc1": (12288, 3072)},
        "HunyuanVideo",
    ),
    "HunyuanVideo 1.5": ({"diffusion_model.double_blocks.0.img_attn.qkv": (6144, 2048)}, "HunyuanVideo 1.5"),
    "HunyuanImage": ({"diffusion_model.double_blocks.0.img_attn.qkv": (10752, 3584)}, "HunyuanImage 2.1"),
    "Wan 1.3B": ({"lora_unet_blocks_0_self_attn_q": (1536, 1536)}, "Wan 2.1 1.3B"),
    "Wan 5B": ({"lora_unet_blocks_0_self_attn_q": (3072, 3072)}, "Wan 2.2 5B"),
    "Wan, diffusers": ({"transformer.blocks.0.attn1.to_q": (5120, 5120)}, "Wan 2.1/2.2 14B"),
    "Lumina 2": ({"diffusion_model.layers.0.attention.qkv": (3840, 2304)}, "Lumina 2"),
    "Lumina 2, diffusers": ({"transformer.layers.0.attn.to_k": (768, 2304)}, "Lumina 2"),
    "Z-Image, own paths": ({"lora_unet_layers_0_attention_qkv": (11520, 3840)}, "Z-Image"),
    "LTX-Video": (
        {
            "transformer.transformer_blocks.0.attn1.to_q": (2048, 2048),
            "transformer.transformer_blocks.0.attn2.to_k": (2048, 2048),
        },
        "LTX-Video",
    ),
    "LTX-Video or Anima": ({"transformer.transformer_blocks.0.attn1.to_q": (2048, 2048)}, None),
    "Anima, kohya": ({"lora_unet_blocks_0_self_attn_q_proj": (2048, 2048)}, "Anima/Cosmos Predict2 2B"),
    "Anima, diffusers": (
        {"transformer.transformer_blocks.0.attn2.to_k": (2048, 1024)},
        "Anima/Cosmos Predict2 2B",
    ),
    "Anima by its adapter": ({"text_conditioner.blocks.0.self_attn.q_proj": (1024, 1024)}, "Anima/Cosmos Predict2 2B"),
    "Cosmos 1 or Predict2, with the same names in diffusers": (
        {"transformer.transformer_blocks.0.attn2.to_k": (5120, 1024)},
        None,
    ),
    "CogVideoX": ({"transformer.transformer_blocks.0.attn1.to_q": (1920, 1920)}, "CogVideoX 2B"),
    "Mochi": ({"transformer.transformer_blocks.0.attn1.add_q_proj": (3072, 1536)}, "Mochi"),
    "ACE-Step 1.5": ({"base_model.model.layers.0.self_attn.q_proj": (2048, 2048)}, "ACE-Step 1.5"),
    "ACE-Step 1.5 XL": ({"lycoris_layers_0_self_attn_q_proj": (4096, 2560)}, "ACE-Step 1.5 XL"),
    "MiniMax H3": ({"diffusion_model.blocks.0.attn.qkv_proj": (21504, 5376)}, "MiniMax H3"),
    "SeedVR2": ({"diffusion_model.blocks.0.attn.proj_qkv.vid": (9216, 3072)}, "SeedVR2 7B"),
    "HunyuanImage's refiner": (
        {"diffusion_model.double_blocks.0.img_attn.qkv": (9984, 3328)},
        "HunyuanImage 2.1 Refiner",
    ),
    "Hunyuan3D": ({"diffusion_model.double_blocks.0.img_attn.qkv": (3072, 1024)}, "Hunyuan3D 2"),
    "Hunyuan3D or Flux without shapes": ({"diffusion_model.double_blocks.0.img_attn.qkv": ()}, "Flux"),
    "LTX 2": ({"diffusion_model.transformer_blocks.0.audio_attn1.to_q": (2048, 2048)}, "LTX 2"),
    # without shapes, and with names that are unknown
    "names alone": (dict.fromkeys(WAN, ()), "Wan 2.1/2.2 14B"),
    "with a norm": (WAN | {"diffusion_model.blocks.0.norm3": (5120,)}, "Wan 2.1/2.2 14B"),
    "one unknown module in ten": (dict(list(WAN.items())[:9]) | {"what.is.this": (1, 1)}, "Wan 2.1/2.2 14B"),
    "two unknown modules in ten": (dict(list(WAN.items())[:8]) | {"what.is.this": (1, 1), "or.this": (1, 1)}, None),
    # others
    "PixArt": ({"transformer.transformer_blocks.0.attn1.to_q": (1152, 1152)}, "PixArt"),
    "AuraFlow": ({"transformer.joint_transformer_blocks.0.attn.to_q": (3072, 3072)}, "AuraFlow"),
    "AnimateDiff": ({"down_blocks.0.motion_modules.0.temporal_transformer.proj_in": (320, 320)}, None),
    "SDXL refiner": (
        {
            "lora_unet_up_blocks_2_attentions_0_proj_in": (768, 768),
            "lora_unet_mid_block_attentions_0_transformer_blocks_3_ff_net_2": (1536, 6144),
        },
        "SDXL Refiner",
    ),
    "the names of Wan in another size": ({"diffusion_model.blocks.0.self_attn.q": (999, 999)}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("modules", "expected"), RECOGNISED.values(), ids=RECOGNISED.keys())
def test_recognised_architecture(modules: Modules, expected: str | None):
    found = recognise(modules)
    assert (found.name if found else None) == expected
    assert expected is None or BY_NAME[expected] in candidates(modules)
    assert recognise(dict(reversed(modules.items()))) is found


# The same class, width and depth in diffusers: nothing tells them apart.
ALIKE_IN_DIFFUSERS = ("Cosmos 14B", "Cosmos Predict2 14B")


@each_architecture
def test_a_lora_of_all_weights_is_recognised_in_every_style(architecture: Architecture):
    shapes = {resolve(n, architecture).weight: s for n, s in modules_of(architecture, every_block=True).items()}
    for style in STYLES:
        modules: Modules = {}
        for weight, (rows, columns) in shapes.items():
            for other, target in style_names(weight, architecture, style):
                modules[other] = (int(rows * target.rows.size), columns)
        found = candidates(modules)
        assert architecture in found
        if not modules or (style == "peft" and architecture.name in ALIKE_IN_DIFFUSERS):
            continue
        assert all(compatible(a, architecture) or architecture.family in a.defers_to for a in found)


@examples(300)
@given(data=st.data(), architecture=st.sampled_from(ARCHITECTURES))
def test_some_modules_of_a_lora_are_never_recognised_as_another_architecture(
    data: st.DataObject, architecture: Architecture
):
    modules = modules_of(architecture)
    names = data.draw(st.lists(st.sampled_from(list(modules)), min_size=1, max_size=8, unique=True))
    style = data.draw(st.sampled_from(STYLES))
    part: Modules = {}
    for name in names:
        rows, columns = modules[name]
        for other, target in style_names(resolve(name, architecture).weight, architecture, style):
            part[other] = (int(rows * target.rows.size), columns)
    found = candidates(part)
    assert architecture in found
    recognised = recognise(part)
    if recognised is not None and not compatible(recognised, architecture):
        assert recognised.family in (architecture.family, *architecture.defers_to)
        for name in part:  # the two must resolve all of its names alike
            assert resolve(name, recognised) == resolve(name, architecture)
    # a LoRA of all weights decides for it
    whole = candidates_of_all(architecture)
    assert find_clash([found, whole]) is None
    together = shared_architecture([found, whole])
    assert together is not None and compatible(together, architecture)


def test_which_architectures_are_compatible():
    def mixes(first: str, second: str) -> bool:
        assert compatible(BY_NAME[first], BY_NAME[second]) == compatible(BY_NAME[second], BY_NAME[first])
        return compatible(BY_NAME[first], BY_NAME[second])

    assert mixes("Flux", "Chroma")
    assert mixes("LTX-Video 13B", "LTX 2")
    assert all(mixes(name, name) for name in BY_NAME)
    for first, second in [
        ("SD 1.5", "SDXL"),
        ("SD 1.5", "SD 2"),
        ("SD 3", "SD 3.5 Large"),
        ("Flux", "Flux 2"),
        ("Flux", "Flux 2 Klein 4B"),
        ("Flux", "HunyuanVideo"),
        ("Flux", "Qwen-Image"),
        ("Wan 2.1/2.2 14B", "Wan 2.1 1.3B"),
        ("Lumina 2", "Z-Image"),
    ]:
        assert not mixes(first, second)


def test_find_clash_gives_the_first_two_incompatible_loras():
    text_encoder = candidates(clip("lora_te1_", 768))
    sd, xl, flux = candidates(SD15), candidates(SDXL), candidates(FLUX)
    unknown = candidates({"what.is.this": (1, 1)})
    assert unknown == ()
    assert find_clash([sd, text_encoder, unknown, sd]) is None
    assert find_clash([text_encoder, sd, unknown, xl]) == (1, 3)
    assert find_clash([xl, xl, flux]) == (0, 2)
    hunyuan = candidates({f"lora_unet_double_blocks_{i}_img_attn_qkv": (9216, 3072) for i in range(20)})
    assert find_clash([flux, hunyuan]) == (0, 1)
    some_of_either = candidates({"lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072)})
    assert find_clash([some_of_either, hunyuan]) is None and find_clash([some_of_either, flux]) is None
    assert find_clash([]) is None


def test_an_ambiguous_lora_is_decided_by_another():
    text_encoder = candidates(clip("lora_te1_", 768))
    either = candidates({"transformer.transformer_blocks.0.attn.to_q": (3072, 3072)})
    assert shared_architecture([text_encoder]) is None and shared_architecture([either]) is None
    assert shared_architecture([text_encoder, candidates(SDXL)]) is BY_NAME["SDXL"]
    assert shared_architecture([either, candidates(QWEN)]) is BY_NAME["Qwen-Image"]
    assert shared_architecture([either, candidates(FLUX)]) is BY_NAME["Flux"]
    chroma = candidates(RECOGNISED["Chroma"][0])
    assert shared_architecture([candidates(FLUX), chroma]) is BY_NAME["Chroma"]  # Chroma has all of these modules too
    with_modulation = candidates(FLUX | {"lora_unet_double_blocks_0_img_mod_lin": (18432, 3072)})
    assert shared_architecture([with_modulation, chroma]) is BY_NAME["Flux"]
    assert shared_architecture([]) is None and shared_architecture([()]) is None
    assert shared_architecture([(), candidates(WAN)]) is BY_NAME["Wan 2.1/2.2 14B"]


def test_architectures_of_one_family_resolve_names_alike():
    assert len(BY_NAME) == len(ARCHITECTURES)  # the names are unique
    for family in {architecture.family for architecture in ARCHITECTURES}:
        members = [a for a in ARCHITECTURES if a.family == family]
        for first, second in itertools.combinations(members, 2):
            for name in modules_of(first):
                parts = style_names(resolve(name, first).weight, first, "peft")
                if second.own_paths.find(resolve(name, first).weight.split(":")[1]) is not None:
                    for other in (name, *(part for part, target in parts if not target.swapped)):
                        assert resolve(other, first) == resolve(other, second)


# ---- patterns


def test_expand_writes_out_all_options():
    assert expand("a.[b|c].{n}", "d") == ("a.b.{n}", "a.c.{n}", "d")
    assert expand("[a|b].[c|d]") == ("a.c", "a.d", "b.c", "b.d")


def test_a_table_prefers_the_pattern_with_fewer_placeholders():
    table = Table([("x.{n}.y.0", "zero"), ("x.{n}.y.2", "two"), ("x.7.y.{m}", "seven"), ("x.{n}.y.{m}", "any")])
    assert table.find("x_3_y_0") == ("zero", {"n": "3"})
    assert table.find("x_12_y_2") == ("two", {"n": "12"})
    assert table.find("x_7_y_1") == ("seven", {"m": "1"})
    assert table.find("x_3_y_1") == ("any", {"n": "3", "m": "1"})
    assert table.find("x_3_y") is None and table.find("x_a_y_0") is None
    with pytest.raises(ValueError, match="twice"):
        Table([("a.b", 1), ("a_b", 2)])


def test_digits_inside_a_word_are_a_number_only_after_block():
    table = Table([("fc1.{n}.conv2x", "a"), ("all.2-1.x", "b")])
    assert table.find("fc1_9_conv2x") == ("a", {"n": "9"})
    assert table.find("all_2-1_x") == ("b", {})
    table = Table([("blocks.block{b}.blocks.0", "a"), ("middle_block.1", "b")])
    assert table.find("blocks_block12_blocks_0") == ("a", {"b": "12"})
    assert table.find("middle_block_1") == ("b", {}) and table.find("middle_block1") is None
