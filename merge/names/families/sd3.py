"""SD 3 and 3.5: joint blocks with fused q, k and v, which diffusers splits (mmdit_to_diffusers, comfy/utils.py).

Medium (3 and 3.5) has 24 blocks of width 1536, 3.5 Large 38 of width 2432. The last block only modulates the context's
input, and diffusers swaps scale and shift there, as in the final layer.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import CLIP_G, clip_l, t5

TABLE = """
mapped under: transformer. base_model.model. lora_transformer_ lycoris_
joint_blocks.{b}. = transformer_blocks.{b}.
    x_block.[attn|attn2].qkv : 3w,w = [attn|attn2].(to_q + to_k + to_v)
    x_block.[attn|attn2].proj : w,w = [attn|attn2].to_out.0
    x_block.[attn|attn2].[ln_q|ln_k] = [attn|attn2].[norm_q|norm_k]
    context_block.attn.qkv : 3w,w = attn.(add_q_proj + add_k_proj + add_v_proj)
    context_block.attn.proj : w,w = attn.to_add_out
    context_block.attn.[ln_q|ln_k] = attn.[norm_added_q|norm_added_k]
    x_block.adaLN_modulation.1 = norm1.linear
    context_block.adaLN_modulation.1 : 6w,w = norm1_context.linear
    [x_block|context_block].mlp.fc1 : 4w,w = [ff|ff_context].net.0.proj
    [x_block|context_block].mlp.fc2 : w,4w = [ff|ff_context].net.2
x_embedder.proj = pos_embed.proj
context_embedder =
[t_embedder|y_embedder].mlp.[0|2] = time_text_embed.[timestep_embedder|text_embedder].[linear_1|linear_2]
final_layer.linear = proj_out
final_layer.adaLN_modulation.1 ~ norm_out.linear
pos_embed!
"""
LAST = "joint_blocks.{0}.context_block.adaLN_modulation.1 : 2w,w ~ transformer_blocks.{0}.norm1_context.linear\n"


def sd3(name: str, depth: int, width: int) -> Architecture:
    return Architecture(
        name=name,
        family="SD 3",
        table=TABLE + LAST.format(depth - 1),
        sizes={"w": width},
        encoders=(clip_l(), CLIP_G, t5("te3", ("lora_te3_",), "text_encoder_3.")),
        blocks={"joint_blocks": depth},
    )


SD3 = sd3("SD 3", 24, 1536)
SD35_LARGE = sd3("SD 3.5 Large", 38, 2432)
