"""Qwen-Image with Edit and Layered, and Mage-Flow, which has twelve of the same blocks and another text encoder.

ComfyUI's model has diffusers' paths, and ComfyUI maps them under any prefix.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import qwen3_vl, qwen25_7b

TABLE = """
transformer_blocks.{b}.
    attn.[to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out] : w,w =
    attn.[norm_q|norm_k|norm_added_q|norm_added_k] =
    [img_mod|txt_mod].1 : 6w,w =
    [img_mlp|txt_mlp].net.0.proj : 4w,w =
    [img_mlp|txt_mlp].net.2 : w,4w =
img_in =
txt_in : w,c =
txt_norm =
time_text_embed.timestep_embedder.[linear_1|linear_2] =
time_text_embed.addition_t_embedding =     # Layered
norm_out.linear =
proj_out =
"""
PREFIXES = (*GENERIC, "", "transformer.", "lycoris_")

QWEN_IMAGE = Architecture(
    name="Qwen-Image",
    table=TABLE,
    sizes={"w": 3072, "c": 3584},
    encoders=(qwen25_7b(),),
    blocks={"transformer_blocks": 60},
    prefixes=PREFIXES,
)
MAGE_FLOW = Architecture(
    name="Mage-Flow",
    table=TABLE,
    sizes={"w": 3072, "c": 2560},
    encoders=(qwen3_vl("qwen3vl_4b", 2560),),
    blocks={"transformer_blocks": 12},
    prefixes=PREFIXES,
    defers_to=("Qwen-Image",),
)
