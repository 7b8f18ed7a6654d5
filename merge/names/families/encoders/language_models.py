"""Language models as text encoders: Llama, Mistral, Qwen, Gemma and gpt-oss, some with an image or audio tower.

ComfyUI has the same structure for all of them. If one is the only encoder, 0.33 maps `lora_te_<path below model.>`,
which kohya writes for Anima. 0.3.75 doesn't, so that only models that came after it have this name.
"""

from __future__ import annotations

from ...model import Encoder

LAYERS = (
    "model.layers.{n}.self_attn.[q_proj|k_proj|v_proj|o_proj|q_norm|k_norm]",
    "model.layers.{n}.mlp.[gate_proj|up_proj|down_proj]",
    "model.layers.{n}.[input_layernorm|post_attention_layernorm|pre_feedforward_layernorm|post_feedforward_layernorm]",
    "model.[embed_tokens|norm|lm_head]",
)
QWEN25_VISION = (
    "visual.patch_embed.proj",
    "visual.blocks.{n}.[norm1|norm2|attn.qkv|attn.proj|mlp.gate_proj|mlp.up_proj|mlp.down_proj]",
    "visual.merger.[ln_q|mlp.{n}]",
)
QWEN3_VISION = (
    "visual.[patch_embed.proj|pos_embed]",
    "visual.blocks.{n}.[norm1|norm2|attn.qkv|attn.proj|mlp.linear_fc1|mlp.linear_fc2]",
    "visual.[merger|deepstack_merger_list.{n}].[norm|linear_fc1|linear_fc2]",
)
SIGLIP = (
    "vision_model.embeddings.[patch_embedding|position_embedding]",
    "vision_model.encoder.layers.{n}.self_attn.[q_proj|k_proj|v_proj|out_proj]",
    "vision_model.encoder.layers.{n}.[layer_norm1|layer_norm2|mlp.fc1|mlp.fc2]",
    "vision_model.post_layernorm",
    "multi_modal_projector.mm_soft_emb_norm",
)
# Gemma 4: the small ones have embeddings per layer, an image tower and an audio tower; 12B has no tower
GEMMA4 = (
    "model.layers.{n}.[per_layer_input_gate|per_layer_projection|post_per_layer_input_norm]",
    "model.[embed_tokens_per_layer|per_layer_model_projection|per_layer_projection_norm]",
    "[multi_modal_projector|audio_projector].embedding_projection",
    "vision_model.[patch_embedder.input_proj|patch_ln1|patch_dense|patch_ln2|pos_norm]",
    "vision_model.encoder.layers.{n}.self_attn.[q_proj|k_proj|v_proj|o_proj].linear",
    "vision_model.encoder.layers.{n}.self_attn.[q_norm|k_norm]",
    "vision_model.encoder.layers.{n}.mlp.[gate_proj|up_proj|down_proj].linear",
    "vision_model.encoder.layers.{n}.[input|post_attention|pre_feedforward|post_feedforward]_layernorm",
    "audio_model.subsample_conv_projection.[layer0.conv|layer0.norm|layer1.conv|layer1.norm|input_proj_linear]",
    "audio_model.layers.{n}.[feed_forward1|feed_forward2].[pre_layer_norm|ffw_layer_1.linear|ffw_layer_2.linear|post_layer_norm]",
    "audio_model.layers.{n}.self_attn.[q_proj.linear|k_proj.linear|v_proj.linear|post.linear|relative_k_proj]",
    "audio_model.layers.{n}.lconv1d.[pre_layer_norm|linear_start.linear|depthwise_conv1d|conv_norm|linear_end.linear]",
    "audio_model.layers.{n}.[norm_pre_attn|norm_post_attn|norm_out]",
    "audio_model.output_proj",
)


def language_model(
    name: str,
    diffusers_prefix: str = "text_encoder.",
    component: str = "te1",
    *,
    more: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    width: int | tuple[int, ...] | None = None,
    nameless: bool = False,
    kohya: bool = False,
    other_names: tuple[str, ...] = (),
) -> Encoder:
    """``nameless``: for models that ComfyUI only has since 0.33; ``kohya``: if it is also their only encoder."""
    weights = (*LAYERS, *more)
    below_root = tuple(path for path in weights if path.startswith("model."))
    mapped = (("lora_te_", below_root),) if kohya else ()
    return Encoder(
        component,
        name,
        weights,
        mapped,
        diffusers_prefix,
        also,
        root="model.",
        width=width,
        nameless=nameless or kohya,
        other_names=other_names,
    )


def qwen25_7b(*, nameless: bool = False, kohya: bool = False) -> Encoder:
    """Qwen2.5-VL with its vision tower: alone in Qwen-Image, with ByT5 in HunyuanImage, with CLIP-L in Kandinsky 5."""
    return language_model("qwen25_7b", more=QWEN25_VISION, width=3584, nameless=nameless, kohya=kohya)


def qwen3_vl(name: str, width: int) -> Encoder:
    """Qwen3-VL with its vision tower, the only encoder of its models. ComfyUI has it since 0.33."""
    return language_model(name, more=QWEN3_VISION, width=width, kohya=True)


LLAMA = language_model("llama", diffusers_prefix="", component="te", also=("te4",), width=4096)  # HunyuanVideo, HiDream
GEMMA2_2B = language_model("gemma2_2b", width=2304)
# NewBie's first encoder
GEMMA3_4B = language_model(
    "gemma", more=SIGLIP, width=2560, nameless=True, other_names=("gemma3_4b", "gemma3_4b_vision")
)
# LTX 2's encoder; ComfyUI calls it so even if it is Gemma 4.
GEMMA3_12B = language_model("gemma3_12b", more=(*SIGLIP, *GEMMA4), width=3840, nameless=True)
# LTX 2's projection of the states of all layers; a single weight before 2.3
LTX2_PROJECTIONS = Encoder(
    "te",
    "text_embedding_projection",
    ("text_embedding_projection", "text_embedding_projection.[audio|video]_aggregate_embed"),
    prefix="text_encoders.",
    aliases={
        "text_embedding_projection.aggregate_embed": "text_embedding_projection",  # Lightricks' file
        "connectors.text_proj_in": "text_embedding_projection",  # diffusers
        "connectors.audio_text_proj_in": "text_embedding_projection.audio_aggregate_embed",
        "connectors.video_text_proj_in": "text_embedding_projection.video_aggregate_embed",
    },
)
GPT_OSS = Encoder(  # Lens
    "te1",
    "gpt_oss",
    (
        "layers.{n}.self_attn.[q_proj|k_proj|v_proj|o_proj]",
        "layers.{n}.mlp.[router|experts.gate_up_proj|experts.down_proj]",
        "layers.{n}.[input_layernorm|post_attention_layernorm]",
        "[embed_tokens|norm]",
    ),
    diffusers_prefix="text_encoder.",
    width=2880,
    nameless=True,
)
MINIMAX_MUSIC = Encoder(
    "te1",
    "minimax_music",
    (
        *LAYERS,
        "model.[lm_head_pruned|embed_tokens_prefill|embed_tokens_audio|audio_extra_embedding]",
        "model.audio_decoder.[projection|pos_embedding|audio_heads.{n}|norm]",
        "model.audio_decoder.layers.{n}.self_attn.[q_proj|k_proj|v_proj|o_proj]",
        "model.audio_decoder.layers.{n}.mlp.[gate_proj|up_proj|down_proj]",
        "model.audio_decoder.layers.{n}.[input_layernorm|post_attention_layernorm]",
    ),
    root="model.",
    width=4096,
    prefix="text_encoders.",
)
