"""LongCat-Image: ten double and twenty single blocks of Flux, with a language model as text encoder.

To ComfyUI it is a Flux with Flux's key map (flux_to_diffusers, comfy/utils.py), which lacks diffusers' name of this
model's time embedder.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import qwen25_7b
from .flux import (
    ATTENTION,
    ENDS,
    FLUX2_BLOCKS,
    HUNYUAN_DOTS,
    LINEAR1,
    MAPPED,
    MLP,
    MODULATION,
    SWAPPED,
    UNMAPPED,
    USO,
    only_read,
    sizes,
)

TABLE = (
    *(MAPPED, ATTENTION, ENDS, SWAPPED, MLP, MODULATION, LINEAR1),
    "time_in.[in_layer|out_layer] < time_text_embed.timestep_embedder.[linear_1|linear_2]",
    *(UNMAPPED, only_read(FLUX2_BLOCKS)),
    "time_in.[in_layer|out_layer] = time_embed.timestep_embedder.[linear_1|linear_2]",
    USO % 4,
)

LONGCAT_IMAGE = Architecture(
    name="LongCat-Image",
    table="".join(TABLE),
    sizes=sizes(3072, 4, gated=False),
    encoders=(qwen25_7b(kohya=True),),
    blocks={"double_blocks": 10, "single_blocks": 20},
    excluded=HUNYUAN_DOTS,
    defers_to=("Flux",),
)
