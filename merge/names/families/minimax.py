"""MiniMax H3 (video with sound) and MiniMax Music 3. ComfyUI has them since 0.33 and maps their own paths only.

The pairs come from diffusers' converters (single_file_utils.py, scripts/convert_minimax_music3_to_diffusers.py).
diffusers swaps the halves of the gated MLPs' first weight.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import MINIMAX_MUSIC, qwen3_vl

# q: rows of the queries, h: width of the MLP
BLOCK = """
    attn.qkv_proj : 3q,w = attn.(to_q + to_k + to_v)
    attn.out_proj : w,q = attn.to_out.0
    attn.[q_norm|k_norm] = attn.[norm_q|norm_k]
    mlp.fc1 : 2h,w ~ ff.net.0.proj
    mlp.fc2 : w,h = ff.net.2
    [norm1|norm2] =
"""
TABLE = f"""
blocks.{{b}}. = transformer_blocks.{{b}}.
{BLOCK}
    adaln_proj.linear : 18w,t =
token_refiner.blocks.{{n}}. = token_refiner.refiner_blocks.{{n}}.
{BLOCK}
token_refiner.final_norm =
[video_patch_proj|audio_patch_proj|condition_proj] = [proj_in|audio_proj_in|context_embedder]
time_embedder.[proj_in|proj_out] = time_embedder.[linear_1|linear_2]
final_layer.[norm|adaln_proj.linear|video_out|audio_out] = [norm_out.norm|norm_out.linear|proj_out|audio_proj_out]
rope.inv_freq!
"""
MUSIC = """
diffusion_transformer.transformer.layers.{b}. = transformer_blocks.{b}.
    self_attn.to_qkv : 3w,w = attn.(to_q + to_k + to_v)
    self_attn.to_out : w,w = attn.to_out.0
    ff.ff.0.proj : 8w,w = ff_in
    ff.ff.2 : w,4w = ff_out
    [pre_norm|ff_norm].gamma! = [norm1|norm2]
    [pre_norm|ff_norm].beta!
diffusion_transformer.transformer.[project_in|project_out] = [proj_in|proj_out]
diffusion_transformer.transformer.rotary_pos_emb.inv_freq!
diffusion_transformer.timestep_features = time_proj
diffusion_transformer.to_timestep_embed.[0|2] = time_embed.[linear_1|linear_2]
diffusion_transformer.[preprocess_conv|postprocess_conv] = [preprocess_conv|postprocess_conv]
latent_conditioners.0
[cond_layer_logits|cond_layer_scale]!
"""

MINIMAX_H3 = Architecture(
    name="MiniMax H3",
    table=TABLE,
    sizes={"w": 5376, "q": 7168, "h": 14336, "t": 2688},
    encoders=(qwen3_vl("qwen3vl_32b", 5120),),
    blocks={"blocks": 50},
)
MINIMAX_MUSIC_3 = Architecture(
    name="MiniMax Music 3",
    table=MUSIC,
    sizes={"w": 2048},
    encoders=(MINIMAX_MUSIC,),
    blocks={"diffusion_transformer.transformer.layers": 36},
)
