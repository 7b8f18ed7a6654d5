"""T5 and its variants. Their number depends on the model: T5-XXL is the first encoder of PixArt, the third of SD 3.

ComfyUI maps kohya's names for T5-XXL only.
"""

from __future__ import annotations

from ...model import Encoder

_BLOCK = (
    "encoder.block.{n}.layer.0.SelfAttention.[q|k|v|o|relative_attention_bias]",
    "encoder.block.{n}.layer.[0|1].layer_norm",
    "encoder.final_layer_norm",
    "shared",
)
T5 = (*_BLOCK, "encoder.block.{n}.layer.1.DenseReluDense.[wi_0|wi_1|wo]")
# The original T5, whose MLP has no gate
T5_UNGATED = (*_BLOCK, "encoder.block.{n}.layer.1.DenseReluDense.[wi|wo]")
T5_GEMMA_WEIGHTS = (
    "model.encoder.layers.{n}.self_attn.[q_proj|k_proj|v_proj|o_proj]",
    "model.encoder.layers.{n}.mlp.[gate_proj|up_proj|down_proj]",
    "model.encoder.layers.{n}.[pre|post]_[self_attn|feedforward]_layernorm",
    "model.encoder.[embed_tokens|norm]",
)


def t5(
    component: str,
    kohya: tuple[str, ...],
    diffusers_prefix: str,
    also: tuple[str, ...] = (),
    nameless: bool = False,
) -> Encoder:
    """T5-XXL. ``nameless``: for models that ComfyUI only has since 0.33."""
    return Encoder(
        component,
        "t5xxl",
        T5,
        tuple((prefix, T5) for prefix in kohya),
        diffusers_prefix,
        also,
        width=4096,
        nameless=nameless,
    )


COSMOS_T5 = Encoder("te1", "t5xxl", T5_UNGATED, (("lora_te1_", T5_UNGATED),), "text_encoder.", width=1024)
T5_BASE = Encoder("te1", "t5base", T5_UNGATED, diffusers_prefix="text_encoder.", width=768)  # Stable Audio
UMT5 = Encoder("te1", "umt5xxl", T5, diffusers_prefix="text_encoder.", width=4096)  # Wan
UMT5_BASE = Encoder("te1", "umt5base", T5, diffusers_prefix="text_encoder.", width=768)  # ACE-Step
PILE_T5 = Encoder("te1", "pile_t5xl", T5, diffusers_prefix="text_encoder.", width=2048)  # AuraFlow
MT5 = Encoder("te2", "mt5xl", T5, diffusers_prefix="text_encoder_2.", width=2048)  # HunyuanDiT
BYT5 = Encoder("te", "byt5_small", T5, diffusers_prefix="text_encoder_2.", also=("te2",), width=1472)  # HunyuanImage
T5_GEMMA = Encoder(  # Stable Audio 3
    "te1",
    "t5gemma",
    T5_GEMMA_WEIGHTS,
    (("lora_te_", T5_GEMMA_WEIGHTS),),
    "text_encoder.",
    root="model.",
    width=768,
    nameless=True,
)
