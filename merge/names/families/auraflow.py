"""AuraFlow and Pony v7: double and single layers without fused weights (auraflow_to_diffusers, comfy/utils.py).

The original numbers the two streams: in a double layer 1 is the text and 2 the image; a single layer only has 1.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import PILE_T5

TABLE = """
mapped under: transformer.
double_layers.{b}. = joint_transformer_blocks.{b}.
    attn.[w1q|w1k|w1v|w1o] : w,w = attn.[add_q_proj|add_k_proj|add_v_proj|to_add_out]
    attn.[w2q|w2k|w2v|w2o] : w,w = attn.[to_q|to_k|to_v|to_out.0]
    [mlpC|mlpX].[c_fc1|c_fc2] : h,w = [ff_context|ff].[linear_1|linear_2]
    [mlpC|mlpX].c_proj : w,h = [ff_context|ff].out_projection
    [modC|modX].1 : 6w,w = [norm1_context|norm1].linear
single_layers.{b}. = single_transformer_blocks.{b}.
    attn.[w1q|w1k|w1v|w1o] : w,w = attn.[to_q|to_k|to_v|to_out.0]
    mlp.[c_fc1|c_fc2] : h,w = ff.[linear_1|linear_2]
    mlp.c_proj : w,h = ff.out_projection
    modCX.1 : 6w,w = norm1.linear
t_embedder.mlp.[0|2] = time_step_proj.[linear_1|linear_2]
cond_seq_linear = context_embedder
init_x_linear = pos_embed.proj
final_linear = proj_out
modF.1 ~ norm_out.linear

mapped under:
register_tokens! =
positional_encoding! = pos_embed.pos_embed
"""

AURAFLOW = Architecture(
    name="AuraFlow",
    table=TABLE,
    sizes={"w": 3072, "h": 8192},
    encoders=(PILE_T5,),
    blocks={"double_layers": 4, "single_layers": 32},
)
