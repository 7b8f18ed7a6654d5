"""HunyuanDiT 1.0 to 1.2: one list of blocks with skip connections from the first half to the second.

1.0 and 1.1 also embed a style and the image's size; the blocks have the same shapes. The pairs come from diffusers'
conversion script. diffusers exchanges norm2 and norm3; here these names are the original's, as in the files that
ComfyUI loads.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import BERT, MT5

TABLE = """
mapped under:
blocks.{b}.
    attn1.Wqkv : 3w,w = attn1.(to_q + to_k + to_v)
    attn2.q_proj : w,w = attn2.to_q
    attn2.kv_proj : 2w,c = attn2.(to_k + to_v)
    [attn1|attn2].out_proj : w,w = [attn1|attn2].to_out.0
    [attn1|attn2].[q_norm|k_norm] = [attn1|attn2].[norm_q|norm_k]
    mlp.fc1 : h,w = ff.net.0.proj
    mlp.fc2 : w,h = ff.net.2
    default_modulation.1 : w,w = norm1.linear
    norm1 = norm1.norm
    [norm2|norm3]
    skip_norm =
    skip_linear : w,2w =
x_embedder.proj = pos_embed.proj
mlp_t5.[0|2] = text_embedder.[linear_1|linear_2]
t_embedder.mlp.[0|2] = time_extra_emb.timestep_embedder.[linear_1|linear_2]
extra_embedder.[0|2] = time_extra_emb.extra_embedder.[linear_1|linear_2]
pooler.[q_proj|k_proj|v_proj|c_proj] = time_extra_emb.pooler.[q_proj|k_proj|v_proj|c_proj]
pooler.positional_embedding! = time_extra_emb.pooler.positional_embedding
style_embedder = time_extra_emb.style_embedder
final_layer.linear = proj_out
final_layer.adaLN_modulation.1 ~ norm_out.linear
text_embedding_padding! =
"""

HUNYUAN_DIT = Architecture(
    name="HunyuanDiT",
    table=TABLE,
    sizes={"w": 1408, "h": 6144, "c": 1024},
    encoders=(BERT, MT5),
    blocks={"blocks": 40},
    prefixes=(*GENERIC, "base_model.model."),
)
