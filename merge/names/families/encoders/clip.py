"""CLIP's text encoders, and two other encoders of its kind: HunyuanDiT's BERT and NewBie's Jina CLIP."""

from __future__ import annotations

from ...model import Encoder

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

BERT_WEIGHTS = (
    "bert.embeddings.[word_embeddings|position_embeddings|token_type_embeddings|LayerNorm]",
    "bert.encoder.layer.{n}.attention.self.[query|key|value]",
    "bert.encoder.layer.{n}.attention.output.[dense|LayerNorm]",
    "bert.encoder.layer.{n}.[intermediate.dense|output.dense|output.LayerNorm]",
)
JINA_WEIGHTS = (
    "model.embeddings.[word_embeddings|token_type_embeddings]",
    "model.emb_ln",
    "model.encoder.layers.{n}.[mixer.Wqkv|mixer.out_proj|norm1|norm2|mlp.fc1|mlp.fc2]",
)


def clip_l(kohya: str = "lora_te1_", also: tuple[str, ...] = ()) -> Encoder:
    """CLIP-L. Trainers call it `te` where it is alone and `te1` where it is the first; ComfyUI takes both."""
    prefixes = {"lora_te1_": (*CLIP_LINEAR, *PROJECTION), "lora_te_": CLIP_LINEAR}
    return Encoder(
        part="te1",
        name="clip_l",
        weights=CLIP,
        mapped=((kohya, prefixes.pop(kohya)), *prefixes.items(), ("text_encoder.", CLIP_LINEAR)),
        diffusers="text_encoder.",
        also=also,
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


def clip_g_alone(*kohya: tuple[str, tuple[str, ...]]) -> Encoder:
    """CLIP-G as the only encoder. OneTrainer's name of its projection, `lora_te2_`, is mapped there too."""
    return Encoder(
        part="te1",
        name="clip_g",
        weights=CLIP,
        mapped=(*kohya, ("text_encoder.", CLIP_LINEAR), ("lora_te2_", PROJECTION)),
        diffusers="text_encoder.",
        also=("te2",),
        width=1280,
    )


# SDXL's refiner and Stable Cascade. Each kohya's name of the encoder first; ComfyUI maps both for both.
PRIOR = ("lora_prior_te_", (*CLIP_LINEAR, *PROJECTION))
CLIP_G_ALONE = clip_g_alone(("lora_te_", CLIP_LINEAR), PRIOR)
CLIP_G_CASCADE = clip_g_alone(PRIOR, ("lora_te_", CLIP_LINEAR))

BERT = Encoder(
    part="te1", name="hydit_clip", weights=BERT_WEIGHTS, mapped=(("lora_te1_", BERT_WEIGHTS),), root="bert.", width=1024
)
# NewBie's second
JINA = Encoder(
    part="te2",
    name="jina",
    weights=JINA_WEIGHTS,
    root="model.",
    nameless=True,
    also=("te1",),
    width=1024,
    others=("jina_clip_2",),
)
