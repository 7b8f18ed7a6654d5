"""Ovis-Image: six double and 27 single blocks of Flux, with gated MLPs.

To ComfyUI it is a Flux with Flux's key map, which is right for the attention and the modulation but not for the MLPs.
The first layer of a double block's MLP is two weights in ComfyUI and a single one in diffusers, which has no names for
its halves. A single block's linear1 has 8 widths of MLP, but ComfyUI maps `proj_mlp` to 4.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import language_model
from .flux import ATTENTION, ENDS, HUNYUAN_DOTS, MAPPED, MODULATION, SWAPPED, UNMAPPED, USO, sizes

TABLE = (
    *(MAPPED, ATTENTION, ENDS, SWAPPED, MODULATION),
    """
single_blocks.{b}. = single_transformer_blocks.{b}.
    linear1 : l,w = (attn.to_q + attn.to_k + attn.to_v + _:8)
    linear2 : w,o = proj_out
time_in.[in_layer|out_layer] < time_text_embed.timestep_embedder.[linear_1|linear_2]
double_blocks.{b}.
    [img_mlp|txt_mlp].[gate_proj|up_proj] : m,w
    [img_mlp|txt_mlp].down_proj : w,m
""",
    UNMAPPED,
    """
single_blocks.{b}. = single_transformer_blocks.{b}.
    linear1 = (_:3 + proj_mlp:8)
    linear1 << attn.to_qkv_mlp_proj
    linear2 << attn.to_out
double_blocks.{b}.[img_mlp|txt_mlp].down_proj = transformer_blocks.{b}.[ff|ff_context].net.2
time_in.[in_layer|out_layer] = timestep_embedder.[linear_1|linear_2]
txt_norm = context_embedder_norm
""",
    USO % 8,
)

OVIS_IMAGE = Architecture(
    name="Ovis-Image",
    table="".join(TABLE),
    sizes=sizes(3072, 4, gated=True),
    encoders=(language_model("qwen3_2b", width=2048, kohya=True),),
    blocks={"double_blocks": 6, "single_blocks": 27},
    excluded=HUNYUAN_DOTS,
    defers_to=("Flux",),
)
