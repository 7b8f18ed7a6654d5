"""Qwen-Image and Qwen-Image-Edit. ComfyUI's model has diffusers' paths, and ComfyUI maps them under any prefix."""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import language_model

TABLE = """
transformer_blocks.{b}.
    attn.[to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out] : w,w =
    attn.[norm_q|norm_k|norm_added_q|norm_added_k] =
    [img_mod|txt_mod].1 : 6w,w =
    [img_mlp|txt_mlp].net.0.proj : 4w,w =
    [img_mlp|txt_mlp].net.2 : w,4w =
img_in =
txt_in =
txt_norm =
time_text_embed.timestep_embedder.[linear_1|linear_2] =
norm_out.linear =
proj_out =
"""
QWEN_IMAGE = Architecture(
    name="Qwen-Image",
    table=TABLE,
    sizes={"w": 3072},
    encoders=(language_model("qwen25_7b"),),
    blocks={"transformer_blocks": 60},
    prefixes=(*GENERIC, "", "transformer.", "lycoris_"),
)
