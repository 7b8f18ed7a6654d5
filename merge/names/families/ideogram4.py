"""Ideogram 4: one list of layers. diffusers splits the fused q, k and v and has the same paths otherwise.

ComfyUI maps its own paths only. diffusers' names come from its LoRA converter.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import qwen3_vl

TABLE = """
layers.{b}.
    attention.qkv : 3w,w = attention.(to_q + to_k + to_v)
    attention.o : w,w = attention.to_out.0
    attention.[norm_q|norm_k] =
    feed_forward.[w1|w3] : h,w =
    feed_forward.w2 : w,h =
    [attention_norm1|attention_norm2|ffn_norm1|ffn_norm2] =
    adaln_modulation : 4w,a =
input_proj =
[llm_cond_norm|llm_cond_proj] =
t_embedding.[mlp_in|mlp_out] : w,w =
adaln_proj : a,w =
embed_image_indicator =
final_layer.linear =
final_layer.adaln_modulation : w,a =
"""

IDEOGRAM4 = Architecture(
    name="Ideogram 4",
    table=TABLE,
    sizes={"w": 4608, "h": 12288, "a": 512},
    encoders=(qwen3_vl("qwen3vl_8b", 4096),),
    blocks={"layers": 34},
)
