"""CLIP's text encoders, HunyuanDiT's BERT and NewBie's Jina CLIP."""

from __future__ import annotations

from ...model import Encoder

# The linear layers, which have names of kohya and diffusers; other weights only have ComfyUI's own name.
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
    """CLIP-L. Trainers call it `te` if it is the only encoder, `te1` if it is the first; ComfyUI maps both."""
    prefixes = {"lora_te1_": (*CLIP_LINEAR, *PROJECTION), "lora_te_": CLIP_LINEAR}
    return Encoder(
        component="te1",
        name="clip_l",
        weights=CLIP,
        mapped=((kohya, prefixes.pop(kohya)), *prefixes.items(), ("text_encoder.", CLIP_LINEAR)),
        diffusers_prefix="text_encoder.",
        also=also,
        width=768,
    )


CLIP_H = Encoder(
    component="te1",
    name="clip_h",
    weights=CLIP,
    mapped=(("lora_te_", CLIP_LINEAR), ("lora_te1_", CLIP_LINEAR), ("text_encoder.", CLIP_LINEAR)),
    diffusers_prefix="text_encoder.",
    width=1024,
)
CLIP_G = Encoder(
    component="te2",
    name="clip_g",
    weights=CLIP,
    mapped=(("lora_te2_", (*CLIP_LINEAR, *PROJECTION)), ("text_encoder_2.", CLIP_LINEAR)),
    diffusers_prefix="text_encoder_2.",
    width=1280,
)


def clip_g_alone(*kohya: tuple[str, tuple[str, ...]]) -> Encoder:
    """CLIP-G as the only encoder. Its projection is also mapped under OneTrainer's prefix, `lora_te2_`."""
    return Encoder(
        component="te1",
        name="clip_g",
        weights=CLIP,
        mapped=(*kohya, ("text_encoder.", CLIP_LINEAR), ("lora_te2_", PROJECTION)),
        diffusers_prefix="text_encoder.",
        also=("te2",),
        width=1280,
    )


# For SDXL's refiner and Stable Cascade. kohya's prefix for the model comes first; ComfyUI maps both for both.
PRIOR = ("lora_prior_te_", (*CLIP_LINEAR, *PROJECTION))
CLIP_G_ALONE = clip_g_alone(("lora_te_", CLIP_LINEAR), PRIOR)
CLIP_G_CASCADE = clip_g_alone(PRIOR, ("lora_te_", CLIP_LINEAR))

BERT = Encoder(
    component="te1",
    name="hydit_clip",
    weights=BERT_WEIGHTS,
    mapped=(("lora_te1_", BERT_WEIGHTS),),
    root="bert.",
    width=1024,
)
# NewBie's second encoder
JINA = Encoder(
    component="te2",
    name="jina",
    weights=JINA_WEIGHTS,
    root="model.",
    nameless=True,
    also=("te1",),
    width=1024,
    other_names=("jina_clip_2",),
)
