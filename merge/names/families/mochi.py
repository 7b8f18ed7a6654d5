"""Mochi 1: two streams, 3072 wide for the video and 1536 for the text.

ComfyUI maps its own paths, also bare. The pairs come from diffusers' converter: diffusers splits q, k and v, and swaps
the halves of the gated MLPs' first weight and of the final modulation. The last block only modulates the text's input,
so that its `mod_y` is a single piece with a name of its own there.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import t5

TABLE = """
blocks.{b}. = transformer_blocks.{b}.
    attn.qkv_x : 3w,w = attn1.(to_q + to_k + to_v)
    attn.qkv_y : 3w,y = attn1.(add_q_proj + add_k_proj + add_v_proj)
    attn.proj_x : w,w = attn1.to_out.0
    attn.proj_y : y,w = attn1.to_add_out
    attn.[q_norm_x|k_norm_x|q_norm_y|k_norm_y] = attn1.[norm_q|norm_k|norm_added_q|norm_added_k]
    mlp_x.w1 : 16384,w ~ ff.net.0.proj
    mlp_x.w2 : w,8192 = ff.net.2
    mlp_y.w1 : 8192,y ~ ff_context.net.0.proj
    mlp_y.w2 : y,4096 = ff_context.net.2
    mod_x : 4w,w = norm1.linear
    mod_y = norm1_context.linear
blocks.47.mod_y = transformer_blocks.47.norm1_context.linear_1
x_embedder.proj = patch_embed.proj
t_embedder.mlp.[0|2] = time_embed.timestep_embedder.[linear_1|linear_2]
t5_y_embedder.[to_kv|to_q|to_out] = time_embed.pooler.[to_kv|to_q|to_out]
t5_yproj = time_embed.caption_proj
final_layer.linear = proj_out
final_layer.mod ~ norm_out.linear
pos_frequencies!
"""
MOCHI = Architecture(
    name="Mochi",
    table=TABLE,
    sizes={"w": 3072, "y": 1536},
    encoders=(t5("te1", ("lora_te1_",), "text_encoder."),),
    blocks={"blocks": 48},
    prefixes=(*GENERIC, ""),
)
