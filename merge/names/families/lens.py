"""Lens: Qwen-Image's blocks with fused q, k and v and gated MLPs.

ComfyUI has the official paths and maps no others. diffusers doesn't have the model, and no trainer supports it yet.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import GPT_OSS

TABLE = """
transformer_blocks.{b}.
    attn.[img_qkv|txt_qkv] : 3w,w =
    attn.[to_out.0|to_add_out] : w,w =
    attn.[norm_q|norm_k|norm_added_q|norm_added_k] =
    [img_mlp|txt_mlp].[w1|w3] : h,w =
    [img_mlp|txt_mlp].w2 : w,h =
    [img_mod|txt_mod].1 : 6w,w =
    [img_norm1|img_norm2|txt_norm1|txt_norm2] =
img_in =
txt_in =
txt_norm.{n} =
time_text_embed.timestep_embedder.[linear_1|linear_2] =
norm_out.linear : 2w,w =
proj_out =
"""

LENS = Architecture(
    name="Lens",
    table=TABLE,
    sizes={"w": 1536, "h": 4096},
    encoders=(GPT_OSS,),
    blocks={"transformer_blocks": 48},
)
