"""Hunyuan3D 2 (and mini): Flux's blocks, 1024 wide. Hunyuan3D 2.1: a plain transformer with experts in its last blocks.

They are conditioned on images and have no text encoder. Their own paths are the only ones in use, and ComfyUI maps no
others.
"""

from __future__ import annotations

from ..model import Architecture
from .flux import OLD_NORMS, sizes

TABLE = """
double_blocks.{b}.
    [img_attn|txt_attn].qkv : 3w,w
    [img_attn|txt_attn].proj : w,w
    [img_attn|txt_attn].norm.[query_norm|key_norm]?
    [img_mod|txt_mod].lin : 6w,w
    [img_mlp|txt_mlp].0 : e,w
    [img_mlp|txt_mlp].2 : w,m
single_blocks.{b}.
    linear1 : l,w
    linear2 : w,o
    norm.[query_norm|key_norm]?
    modulation.lin : 3w,w
latent_in
cond_in
time_in.[in_layer|out_layer]
final_layer.[linear|adaLN_modulation.1]
"""
TABLE_21 = """
blocks.{b}.
    [attn1|attn2].[to_q|out_proj] : w,w
    attn1.[to_k|to_v] : w,w
    attn2.[to_k|to_v] : w,1024
    [attn1|attn2].[q_norm|k_norm]
    [norm1|norm2|norm3|skip_norm]
    skip_linear : w,2w
    mlp.fc1 : 4w,w
    mlp.fc2 : w,4w
    moe.[experts.{n}|shared_experts].net.0.proj : 4w,w
    moe.[experts.{n}|shared_experts].net.2 : w,4w
    moe.gate
x_embedder
t_embedder.mlp.[0|2]
final_layer.[norm_final|linear]
"""


def hunyuan3d(name: str, double: int, single: int) -> Architecture:
    return Architecture(
        name=name,
        family="Hunyuan3D 2",
        table=TABLE + OLD_NORMS,
        sizes=sizes(1024, 4, gated=False),
        blocks={"double_blocks": double, "single_blocks": single},
        defers_to=("Flux",),
    )


HUNYUAN3D_MINI = hunyuan3d("Hunyuan3D 2 mini", 8, 16)
HUNYUAN3D = hunyuan3d("Hunyuan3D 2", 16, 32)
HUNYUAN3D_21 = Architecture(name="Hunyuan3D 2.1", table=TABLE_21, sizes={"w": 2048}, blocks={"blocks": 21})
