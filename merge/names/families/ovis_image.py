"""Ovis-Image: Flux's blocks, six double and 27 single ones, with gated MLPs.

ComfyUI has it as a Flux and maps it with Flux's map, which is right for the attention and the modulation but not for
the MLPs: the double blocks' are split here and fused in diffusers, which has no name for either part, and a single
block's linear1 has 8 widths of MLP where the map says 4. A part of linear1 would read otherwise in a Flux LoRA of the
same blocks, and no trainer writes one for Ovis; so these names say nothing about the family.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import language_model
from .flux import ATTENTION, ENDS, HUNYUAN_DOTS, LINEAR1, MAPPED, MODULATION, SWAPPED, UNMAPPED, USO, only_read, sizes

TABLE = (
    *(MAPPED, ATTENTION, ENDS, SWAPPED, MODULATION),
    only_read(LINEAR1).replace("proj_mlp:4", "proj_mlp:4 + _:4"),
    """
single_blocks.{b}.linear2 : w,o = single_transformer_blocks.{b}.proj_out
time_in.[in_layer|out_layer] << time_text_embed.timestep_embedder.[linear_1|linear_2]
double_blocks.{b}.
    [img_mlp|txt_mlp].[gate_proj|up_proj] : m,w
    [img_mlp|txt_mlp].down_proj : w,m
""",
    UNMAPPED,
    """
single_blocks.{b}. = single_transformer_blocks.{b}.
    linear1 << attn.to_qkv_mlp_proj
    linear2 << attn.to_out
time_in.[in_layer|out_layer] = timestep_embedder.[linear_1|linear_2]
txt_norm = context_embedder_norm
""",
    (USO % 8).replace(" < ", " << "),
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
