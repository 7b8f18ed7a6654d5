"""Krea 2: one list of blocks after two small stacks that mix the text encoder's layers.

diffusers renames the weights but neither fuses nor splits any. Every ComfyUI with this model maps diffusers' paths of
the linear layers (krea2_to_diffusers, comfy/utils.py). The norms' parameter is `scale` in ComfyUI and `weight` in
diffusers.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import qwen3_vl

BLOCKS = "blocks.{b}. = transformer_blocks.{b}."
FUSION = "txtfusion.[layerwise_blocks|refiner_blocks].{n}. = text_fusion.[layerwise_blocks|refiner_blocks].{n}."
# w, k: rows of queries and keys; h: width of the MLP
IN_BLOCK = """
    attn.[wq|gate] : {w},{w} = attn.[to_q|to_gate]
    attn.[wk|wv] : {k},{w} = attn.[to_k|to_v]
    attn.wo : {w},{w} = attn.to_out.0
    attn.wo << attn.to_out
    mlp.[gate|up] : {h},{w} = ff.[gate|up]
    mlp.down : {w},{h} = ff.down
"""
NORMS = """
    [prenorm|postnorm].scale! = [norm1|norm2]
    attn.qknorm.[qnorm|knorm].scale! = attn.[norm_q|norm_k]
"""
TABLE = f"""
mapped under: bare diffusion_model. transformer. lycoris_
{BLOCKS}{IN_BLOCK.format(w="w", k="k", h="h")}
{FUSION}{IN_BLOCK.format(w="t", k="t", h="f")}
first = img_in
tmlp.[0|2] = time_embed.[linear_1|linear_2]
tproj.1 : 6w,w = time_mod_proj
txtfusion.projector = text_fusion.projector
txtmlp.[1|3] = txt_in.[linear_1|linear_2]
last.linear = final_layer.linear

mapped under:
{BLOCKS}{NORMS}
{FUSION}{NORMS}
txtmlp.0.scale! = txt_in.norm
last.norm.scale! = final_layer.norm
last.modulation.lin! = final_layer.scale_shift_table
blocks.{{b}}.mod.lin!     # in diffusers scale_shift_table, the same values in another shape: six rows
"""

KREA2 = Architecture(
    name="Krea 2",
    table=TABLE,
    sizes={"w": 6144, "k": 1536, "h": 16384, "t": 2560, "f": 6912},
    encoders=(qwen3_vl("qwen3vl_4b", 2560),),
    blocks={"blocks": 28},
)
