"""PixelDiT, a pixel-space model, and PiD, the upscaler made from it. Neither diffusers nor any trainer supports them.

ComfyUI maps its own paths only. It splits the original's `pixel_blocks.N.adaLN_modulation` into two weights whose rows
alternate there, so that the original's name has no target.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import language_model

PIXELDIT_TABLE = """
patch_blocks.{b}.
    attn.[qkv_x|qkv_y] : 3w,w =
    attn.[proj_x|proj_y] : w,w =
    attn.[q_norm_x|k_norm_x|q_norm_y|k_norm_y] =
    [mlp_x|mlp_y].[w1|w3] : h,w =
    [mlp_x|mlp_y].w2 : w,h =
    [adaLN_modulation_img|adaLN_modulation_txt].0 : 6w,w =
    [norm_x1|norm_y1|norm_x2|norm_y2] =
pixel_blocks.{n}.
    attn.qkv : 3p,p =
    attn.proj : p,p =
    attn.[q_norm|k_norm] =
    mlp.[fc1|fc2] =
    compress_to_attn : p,h =
    expand_from_attn : h,p =
    [adaLN_modulation_msa|adaLN_modulation_mlp] : 3h,w =
    [norm1|norm2] =
pixel_embedder.proj =
s_embedder.proj =
t_embedder.mlp.[0|2] =
y_embedder.[proj|norm] =
final_layer.[norm|linear] =
y_pos_embedding! =
"""
# The layers that take in the low-resolution image
PID_TABLE = """
lq_proj.latent_proj.{n} =
lq_proj.latent_proj.{n}.block.{m} =
lq_proj.output_heads.{n} : w,512 =
lq_proj.pit_head =
lq_proj.gate_modules.{n}.content_proj =
lq_proj.gate_modules.{n}.log_alpha! =
pit_lq_gate.content_proj =
pit_lq_gate.log_alpha! =
"""
SIZES = {"w": 1536, "h": 4096, "p": 1152}

PIXELDIT = Architecture(
    name="PixelDiT",
    table=PIXELDIT_TABLE,
    sizes=SIZES,
    encoders=(language_model("gemma2_2b", width=2304, kohya=True),),
    blocks={"patch_blocks": 14},
)
PID = Architecture(
    name="PiD",
    table=PIXELDIT_TABLE + PID_TABLE,
    sizes=SIZES,
    encoders=(language_model("gemma2_2b", width=2304, kohya=True),),
    blocks={"patch_blocks": 14},
    defers_to=("PixelDiT",),
)
