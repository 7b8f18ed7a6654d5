"""Which weight, and which of its rows, a module name means: names as trainers write them, one by one.

tests/comfy/test_key_maps.py compares the tables with a real ComfyUI.
"""

from __future__ import annotations

import pytest
from lora_pack.merge.names import (
    Architecture,
    Target,
    loadable,
    prefixes,
    resolve,
    style_name,
)
from lora_pack.tests.support.architectures import (
    BY_NAME,
    CLIP,
    CLIP_FLAT,
    T5,
    T5_FLAT,
    UNET_OWN,
    UNET_Q,
    rows_of,
)

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
