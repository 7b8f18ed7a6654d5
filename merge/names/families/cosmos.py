"""Cosmos 1 (7B, 14B) and Cosmos Predict2 (2B, 14B). ComfyUI maps their own paths only.

Anima is Predict2 2B with an adapter for a language model's states; only the adapter tells them apart, and far more
LoRAs are for Anima. In diffusers the adapter is a model of its own, `text_conditioner.` in a LoRA. The pairs come from
diffusers' converters (single_file_utils.py, scripts/convert_anima_to_diffusers.py).
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import COSMOS_T5, language_model

COSMOS1 = """
blocks.block{b}.blocks.[0|1|2].adaLN_modulation.[1|2] = transformer_blocks.{b}.[norm1|norm2|norm3].[linear_1|linear_2]
blocks.block{b}.blocks.[0|1].block.attn. = transformer_blocks.{b}.[attn1|attn2].
    [to_q.0|to_out.0] : w,w = [to_q|to_out.0]
    [to_q.1|to_k.1] = [norm_q|norm_k]
blocks.block{b}.blocks.0.block.attn.[to_k.0|to_v.0] : w,w = transformer_blocks.{b}.attn1.[to_k|to_v]
blocks.block{b}.blocks.1.block.attn.[to_k.0|to_v.0] : w,1024 = transformer_blocks.{b}.attn2.[to_k|to_v]
blocks.block{b}.blocks.2.block.layer1 : 4w,w = transformer_blocks.{b}.ff.net.0.proj
blocks.block{b}.blocks.2.block.layer2 : w,4w = transformer_blocks.{b}.ff.net.2
x_embedder.proj.1 = patch_embed.proj
t_embedder.1.[linear_1|linear_2] = time_embed.t_embedder.[linear_1|linear_2]
affline_norm = time_embed.norm
final_layer.linear = proj_out
final_layer.adaLN_modulation.[1|2] = norm_out.[linear_1|linear_2]
extra_pos_embedder.[pos_emb_t|pos_emb_h|pos_emb_w]!
"""
PREDICT2 = """
blocks.{b}. = transformer_blocks.{b}.
    self_attn.[q_proj|k_proj|v_proj|output_proj] : w,w = attn1.[to_q|to_k|to_v|to_out.0]
    cross_attn.[q_proj|output_proj] : w,w = attn2.[to_q|to_out.0]
    cross_attn.[k_proj|v_proj] : w,1024 = attn2.[to_k|to_v]
    [self_attn|cross_attn].[q_norm|k_norm] = [attn1|attn2].[norm_q|norm_k]
    mlp.layer1 : 4w,w = ff.net.0.proj
    mlp.layer2 : w,4w = ff.net.2
    adaln_modulation_[self_attn|cross_attn|mlp].[1|2] = [norm1|norm2|norm3].[linear_1|linear_2]
x_embedder.proj.1 = patch_embed.proj
t_embedder.1.[linear_1|linear_2] = time_embed.t_embedder.[linear_1|linear_2]
t_embedding_norm = time_embed.norm
final_layer.linear = proj_out
final_layer.adaln_modulation.[1|2] = norm_out.[linear_1|linear_2]
"""
ADAPTER = """
llm_adapter. = text_conditioner.
    blocks.{n}.[self_attn|cross_attn].[q_proj|k_proj|v_proj|o_proj|q_norm|k_norm] <
    blocks.{n}.mlp.[0|2] <
    blocks.{n}.[norm_self_attn|norm_cross_attn|norm_mlp] <
    [embed|out_proj|norm] <
"""
# Anima's only encoder; ComfyUI has it since 0.33.
QWEN3_06B = language_model("qwen3_06b", component="te", width=1024, kohya=True)


def cosmos1(name: str, width: int, blocks: int) -> Architecture:
    return Architecture(
        name=name,
        family="Cosmos 1",
        table=COSMOS1,
        sizes={"w": width},
        encoders=(COSMOS_T5,),
        blocks={"blocks.block": blocks},
    )


COSMOS_7B = cosmos1("Cosmos 7B", 4096, 28)
COSMOS_14B = cosmos1("Cosmos 14B", 5120, 36)
ANIMA = Architecture(
    name="Anima/Cosmos Predict2 2B",
    family="Cosmos Predict2",
    table=PREDICT2 + ADAPTER,
    sizes={"w": 2048},
    encoders=(COSMOS_T5, QWEN3_06B),
    blocks={"blocks": 28},
)
PREDICT2_14B = Architecture(
    name="Cosmos Predict2 14B",
    family="Cosmos Predict2",
    table=PREDICT2,
    sizes={"w": 5120},
    encoders=(COSMOS_T5,),
    blocks={"blocks": 36},
)
