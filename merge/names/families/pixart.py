"""PixArt Alpha and Sigma: blocks with fused q, k and v, which diffusers splits (pixart_to_diffusers, comfy/utils.py).

Only Alpha embeds the image's size and aspect ratio.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import t5

TABLE = """
mapped under: transformer. base_model.model. unet.base_model.model.
blocks.{b}. = transformer_blocks.{b}.
    attn.qkv : 3w,w = attn1.(to_q + to_k + to_v)
    attn.proj : w,w = attn1.to_out.0
    cross_attn.q_linear : w,w = attn2.to_q
    cross_attn.kv_linear : 2w,w = attn2.(to_k + to_v)
    cross_attn.proj : w,w = attn2.to_out.0
    mlp.fc1 : 4w,w = ff.net.0.proj
    mlp.fc2 : w,4w = ff.net.2
x_embedder.proj = pos_embed.proj
t_embedder.mlp.[0|2] = adaln_single.emb.timestep_embedder.[linear_1|linear_2]
[csize_embedder|ar_embedder].mlp.[0|2] = adaln_single.emb.[resolution_embedder|aspect_ratio_embedder].[linear_1|linear_2]
t_block.1 : 6w,w = adaln_single.linear
y_embedder.y_proj.[fc1|fc2] = caption_projection.[linear_1|linear_2]
final_layer.linear = proj_out

mapped under:
blocks.{b}.scale_shift_table! = transformer_blocks.{b}.scale_shift_table
final_layer.scale_shift_table! = scale_shift_table
y_embedder.y_embedding!
"""  # noqa: E501

PIXART = Architecture(
    name="PixArt",
    table=TABLE,
    sizes={"w": 1152},
    encoders=(t5("te1", ("lora_te1_",), "text_encoder."),),
    blocks={"blocks": 28},
)
