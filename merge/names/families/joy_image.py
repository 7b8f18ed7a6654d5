"""Joy-Image: double blocks only. ComfyUI and diffusers have the same paths, with fused q, k and v.

In the original and in DiffSynth-Studio's trainer the attention's weights lie in the block itself: `.img_attn_qkv`. Once
flat, their names equal those of Flux 2's double blocks.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import qwen3_vl

TABLE = """
double_blocks.{b}.
    attn.[img_attn_qkv|txt_attn_qkv] : 3w,w =
    attn.[img_attn_proj|txt_attn_proj] : w,w =
    attn.[img_attn_q_norm|img_attn_k_norm|txt_attn_q_norm|txt_attn_k_norm] =
    attn.[img_attn|txt_attn]_[qkv|proj|q_norm|k_norm] < [img_attn|txt_attn]_[qkv|proj|q_norm|k_norm]
    [img_mlp|txt_mlp].net.0.proj : 4w,w =
    [img_mlp|txt_mlp].net.2 : w,4w =
    [img_mod|txt_mod].modulate_table! =
img_in =
condition_embedder.[time_embedder|text_embedder].[linear_1|linear_2] =
condition_embedder.time_proj : 6w,w =
proj_out =
"""
# Flux 2's names that are the same once flat
FLUX2_NAMES = tuple(f"{number}{dot}{x}_attn{dot}" for number in range(10) for dot in "._" for x in ("img", "txt"))

JOY_IMAGE = Architecture(
    name="Joy-Image",
    table=TABLE,
    sizes={"w": 4096},
    encoders=(qwen3_vl("qwen3vl_8b", 4096),),
    blocks={"double_blocks": 40},
    excluded=FLUX2_NAMES,
)
