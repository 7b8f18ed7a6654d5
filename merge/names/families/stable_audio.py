"""Stable Audio (Open 1) and Stable Audio 3. ComfyUI maps their own paths only.

The pairs come from diffusers' converters (scripts/convert_stable_audio.py, convert_stable_audio_3_to_diffusers.py). The
first word of a bare `transformer.layers.0...` is taken for diffusers' prefix, hence the aliases that begin with
`layers.`. Stable Audio 3's `self_attn.to_qkv` has no diffusers name here: its five parts have another order there.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import T5_BASE, T5_GEMMA

ENDS = """
[preprocess_conv|postprocess_conv] =
transformer.[project_in|project_out] = [proj_in|proj_out]
transformer.rotary_pos_emb.inv_freq!
transformer.layers.{b}. = layers.{b}.
    self_attn.[to_qkv|to_out] <
    cross_attn.[to_q|to_kv|to_out] <
    ff.ff.[0.proj|2] <
transformer.[project_in|project_out] < [project_in|project_out]
"""
TABLE = """
transformer.layers.{b}. = transformer_blocks.{b}.
    self_attn.to_qkv : 3w,w = attn1.(to_q + to_k + to_v)
    self_attn.to_out : w,w = attn1.to_out.0
    cross_attn.to_q : w,w = attn2.to_q
    cross_attn.to_kv : w,768 = attn2.(to_k + to_v)
    cross_attn.to_out : w,w = attn2.to_out.0
    ff.ff.0.proj : 8w,w = ff.net.0.proj
    ff.ff.2 : w,4w = ff.net.2
    [pre_norm|cross_attend_norm|ff_norm].gamma! = [norm1|norm2|norm3]
[to_timestep_embed|to_global_embed|to_cond_embed].[0|2] = [timestep_proj|global_proj|cross_attention_proj].[0|2]
timestep_features = time_proj
"""
TABLE_3 = """
transformer.layers.{b}. = transformer_blocks.{b}.
    self_attn.to_qkv : 5w,w
    self_attn.to_out : w,w =
    cross_attn.to_q : 2w,w =
    cross_attn.to_kv : 3w,w =
    cross_attn.to_out : w,w =
    ff.ff.0.proj : 8w,w = ff.proj_in
    ff.ff.2 : w,4w = ff.proj_out
    to_local_embed.[0|2] =
    to_scale_shift_gate!
    [pre_norm|cross_attend_norm|ff_norm].gamma!
    [self_attn|cross_attn].[q_norm|k_norm].gamma!
[to_timestep_embed|to_global_embed|to_cond_embed].[0|2] =
transformer.global_cond_embedder.[0|2] = global_cond_embedder.[0|2]
transformer.memory_tokens!
padding_embedding!
transformer.layers.{b}. = layers.{b}.
    to_local_embed.[0|2] <
"""

STABLE_AUDIO = Architecture(
    name="Stable Audio",
    table=TABLE + ENDS,
    sizes={"w": 1536},
    encoders=(T5_BASE,),
    blocks={"transformer.layers": 24},
)
STABLE_AUDIO_3 = Architecture(
    name="Stable Audio 3",
    table=TABLE_3 + ENDS,
    sizes={"w": 1536},
    encoders=(T5_GEMMA,),
    blocks={"transformer.layers": 24},
)
