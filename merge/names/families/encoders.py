"""The text encoders: their weights, and the names that ComfyUI knows them by (model_lora_keys_clip, comfy/lora.py)."""

from __future__ import annotations

from ..model import Encoder

# The linear layers that kohya's and diffusers' names exist for; everything else has ComfyUI's generic name alone.
CLIP_LINEAR = (
    "text_model.encoder.layers.{n}.[self_attn.q_proj|self_attn.k_proj|self_attn.v_proj|self_attn.out_proj|mlp.fc1|mlp.fc2]",
)
CLIP = (
    *CLIP_LINEAR,
    "text_model.encoder.layers.{n}.[layer_norm1|layer_norm2]",
    "text_model.embeddings.[token_embedding|position_embedding]",
    "text_model.final_layer_norm",
    "text_projection",
)
PROJECTION = ("text_projection",)

T5 = (
    "encoder.block.{n}.layer.0.SelfAttention.[q|k|v|o|relative_attention_bias]",
    "encoder.block.{n}.layer.1.DenseReluDense.[wi_0|wi_1|wo]",
    "encoder.block.{n}.layer.[0|1].layer_norm",
    "encoder.final_layer_norm",
    "shared",
)

# Llama, Mistral, Gemma and Qwen as ComfyUI builds them
LANGUAGE_MODEL = (
    "layers.{n}.self_attn.[q_proj|k_proj|v_proj|o_proj|q_norm|k_norm]",
    "layers.{n}.mlp.[gate_proj|up_proj|down_proj]",
    "layers.{n}.[input_layernorm|post_attention_layernorm|pre_feedforward_layernorm|post_feedforward_layernorm]",
    "embed_tokens",
    "norm",
)


def clip_l(kohya: str = "lora_te1_") -> Encoder:
    """CLIP-L. Trainers call it `te` where it is alone and `te1` where it is the first; ComfyUI takes both."""
    prefixes = {"lora_te1_": (*CLIP_LINEAR, *PROJECTION), "lora_te_": CLIP_LINEAR}
    return Encoder(
        part="te1",
        name="clip_l",
        weights=CLIP,
        mapped=((kohya, prefixes.pop(kohya)), *prefixes.items(), ("text_encoder.", CLIP_LINEAR)),
        diffusers="text_encoder.",
        width=768,
    )


CLIP_H = Encoder(
    part="te1",
    name="clip_h",
    weights=CLIP,
    mapped=(("lora_te_", CLIP_LINEAR), ("lora_te1_", CLIP_LINEAR), ("text_encoder.", CLIP_LINEAR)),
    diffusers="text_encoder.",
    width=1024,
)
CLIP_G = Encoder(
    part="te2",
    name="clip_g",
    weights=CLIP,
    mapped=(("lora_te2_", (*CLIP_LINEAR, *PROJECTION)), ("text_encoder_2.", CLIP_LINEAR)),
    diffusers="text_encoder_2.",
    width=1280,
)
# The refiner's only encoder
CLIP_G_ALONE = Encoder(
    part="te1",
    name="clip_g",
    weights=CLIP,
    mapped=(("lora_te_", CLIP_LINEAR), ("text_encoder.", CLIP_LINEAR)),
    diffusers="text_encoder.",
    also=("te2",),
    width=1280,
)


def t5(
    part: str,
    kohya: tuple[str, ...],
    diffusers: str,
    name: str = "t5xxl",
    also: tuple[str, ...] = (),
    width: int = 4096,
) -> Encoder:
    """A T5 encoder; which number it has depends on what stands before it."""
    return Encoder(part, name, T5, tuple((prefix, T5) for prefix in kohya), diffusers, also, width=width)


def language_model(name: str, diffusers: str = "text_encoder.", part: str = "te1") -> Encoder:
    """A language model as the encoder. ComfyUI 0.33 maps `lora_te_<path>` where it is the only one; 0.3.75 doesn't."""
    return Encoder(part, name, LANGUAGE_MODEL, (), diffusers, root="model.")
