"""HunyuanVideo, HunyuanVideo 1.5 and HunyuanImage 2.1: Flux's blocks with a token refiner before them.

ComfyUI maps diffusion-pipe's spelling of HunyuanVideo besides its own (model_lora_keys_unet). The original's other
names and those of diffusers are what diffusers' converter of the checkpoint knows. It maps no name for the parts of a
fused weight, so they are only ever written fused.
"""

from __future__ import annotations

from ..model import Architecture, Encoder
from .encoders import BYT5, LLAMA, clip_l, qwen25_7b
from .flux import ATTENTION, LINEAR1, MLP, MODULATION, OLD_NORMS, SWAPPED, UNMAPPED, sizes

REFINER = """
txt_in.individual_token_refiner.blocks.{n}. = context_embedder.token_refiner.refiner_blocks.{n}.
    self_attn.qkv = attn.(to_q + to_k + to_v)
    self_attn.proj = attn.to_out.0
    [norm1|norm2] =
    adaLN_modulation.1 = norm_out.linear      # a pair of gates, which diffusers leaves in order
    mlp.[0|2] = ff.[net.0.proj|net.2]
txt_in. = context_embedder.
    input_embedder = proj_in
    [t_embedder|c_embedder].[in_layer|out_layer] = time_text_embed.[timestep|text]_embedder.[linear_1|linear_2]
"""
ENDS = """
img_in.proj = x_embedder.proj
[time_in|vector_in|guidance_in].[in_layer|out_layer] = time_text_embed.[timestep|text|guidance]_embedder.[linear_1|linear_2]
final_layer.linear = proj_out
"""  # noqa: E501
ORIGINAL = """
[time_in|guidance_in].[in_layer|out_layer] < [time_in|guidance_in].mlp.[0|2]
txt_in.t_embedder.[in_layer|out_layer] < txt_in.t_embedder.mlp.[0|2]
txt_in.c_embedder.[in_layer|out_layer] < txt_in.c_embedder.[linear_1|linear_2]
double_blocks.{b}.[img|txt]_attn.qkv < double_blocks.{b}.([img|txt]_attn_q + [img|txt]_attn_k + [img|txt]_attn_v)
"""
# Where diffusion-pipe's spelling differs from ComfyUI's, and where it doesn't.
PIPE = """
mapped under: transformer. diffusion_model.
double_blocks.{b}.
    [img_mod|txt_mod].lin < [img_mod|txt_mod].linear
    [img|txt]_attn.[qkv|proj] < [img|txt]_attn_[qkv|proj]
    [img_mlp|txt_mlp].[0|2] < [img_mlp|txt_mlp].[fc1|fc2]
single_blocks.{b}.modulation.lin < single_blocks.{b}.modulation.linear
txt_in.individual_token_refiner.blocks.{n}.
    self_attn.[qkv|proj] < self_attn_[qkv|proj]
    mlp.[0|2] < mlp.[fc1|fc2]
mapped under: transformer.
single_blocks.{b}.[linear1|linear2] <
txt_in.individual_token_refiner.blocks.{n}.[norm1|norm2] <
txt_in.individual_token_refiner.blocks.{n}.adaLN_modulation.1 <
txt_in.input_embedder <
txt_in.[t_embedder|c_embedder].[in_layer|out_layer] <
img_in.proj <
[time_in|vector_in|guidance_in].[in_layer|out_layer] <
final_layer.linear <
final_layer.adaLN_modulation.1 <
"""
# Of 1.5 and HunyuanImage; the cond type's embedding is 1.5's alone.
LATER = """
time_r_in.[in_layer|out_layer] <
byt5_in.[layernorm|fc1|fc2|fc3] <
vision_in.proj.{n} <
cond_type_embedding <
"""
HUNYUAN_TABLE = "".join(
    (UNMAPPED, ATTENTION, MLP, MODULATION, LINEAR1, REFINER, ENDS, SWAPPED, ORIGINAL, OLD_NORMS, PIPE)
)


def hunyuan(
    name: str, width: int, double: int, single: int, later: bool, encoders: tuple[Encoder, ...], pipe: bool = True
) -> Architecture:
    table = HUNYUAN_TABLE + LATER if later else HUNYUAN_TABLE
    lines = table.splitlines(keepends=True)
    return Architecture(
        name=name,
        family="HunyuanVideo",
        table=table if pipe else "".join(line for line in lines if not line.startswith("mapped under:")),
        sizes=sizes(width, 4, gated=False),
        encoders=encoders,
        blocks={"double_blocks": double, "single_blocks": single},
        defers_to=("Flux",),
    )


HUNYUAN_VIDEO = hunyuan("HunyuanVideo", 3072, 20, 40, False, (clip_l(also=("te2",)), LLAMA))
HUNYUAN_VIDEO_15 = hunyuan("HunyuanVideo 1.5", 2048, 54, 0, True, (qwen25_7b(), BYT5))
# ComfyUI knows HunyuanImage by its own paths alone
HUNYUAN_IMAGE = hunyuan("HunyuanImage 2.1", 3584, 20, 40, True, (qwen25_7b(), BYT5), pipe=False)
