"""HunyuanVideo, HunyuanVideo 1.5 and HunyuanImage 2.1: Flux's blocks after a token refiner.

Besides their own paths, ComfyUI maps diffusion-pipe's names for HunyuanVideo (model_lora_keys_unet). The original's
other names and diffusers' names come from diffusers' checkpoint converter. ComfyUI maps no names to rows of a fused
weight, so only whole weights are written.
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
    adaLN_modulation.1 = norm_out.linear      # two gates, which diffusers doesn't swap
    mlp.[0|2] = ff.[net.0.proj|net.2]
txt_in. = context_embedder.
    input_embedder = proj_in
    [t_embedder|c_embedder].[in_layer|out_layer] = time_text_embed.[timestep|text]_embedder.[linear_1|linear_2]
"""
ENDS = """
img_in.proj = x_embedder.proj
byt5_in.[layernorm|fc1|fc2|fc3] = context_embedder_2.[norm|linear_1|linear_2|linear_3]
vision_in.proj.[0|1|3|4] = image_embedder.[norm_in|linear_1|linear_2|norm_out]
cond_type_embedding = cond_type_embed
final_layer.linear = proj_out
"""
# diffusers' names of the embedders. Each model has one of these, and recognises the others.
EMBEDDERS = {
    "time_text_embed": """
[time_in|vector_in|guidance_in].[in_layer|out_layer] {} time_text_embed.[timestep|text|guidance]_embedder.[linear_1|linear_2]
""",  # noqa: E501
    "time_embed": """
[time_in|time_r_in].[in_layer|out_layer] {} time_embed.[timestep_embedder|timestep_embedder_r].[linear_1|linear_2]
""",
    "time_guidance_embed": """
[time_in|time_r_in].[in_layer|out_layer] {} time_guidance_embed.[timestep_embedder|timestep_embedder_r].[linear_1|linear_2]
guidance_in.[in_layer|out_layer] {} time_guidance_embed.guidance_embedder.[linear_1|linear_2]
""",  # noqa: E501
}
# The names in Tencent's code, some of which splits weights that the checkpoint has fused.
ORIGINAL = """
[time_in|time_r_in|guidance_in].[in_layer|out_layer] < [time_in|time_r_in|guidance_in].mlp.[0|2]
txt_in.t_embedder.[in_layer|out_layer] < txt_in.t_embedder.mlp.[0|2]
txt_in.c_embedder.[in_layer|out_layer] < txt_in.c_embedder.[linear_1|linear_2]
double_blocks.{b}.[img|txt]_attn.qkv < double_blocks.{b}.([img|txt]_attn_q + [img|txt]_attn_k + [img|txt]_attn_v)
double_blocks.{b}.[img|txt]_attn.norm.[query|key]_norm < double_blocks.{b}.[img|txt]_attn_[q|k]_norm
single_blocks.{b}.linear1 < single_blocks.{b}.(linear1_q + linear1_k + linear1_v + linear1_mlp:4)
single_blocks.{b}.linear2 < single_blocks.{b}.linear2.fc
single_blocks.{b}.norm.[query|key]_norm < single_blocks.{b}.[q|k]_norm
"""
# diffusion-pipe's names: first those that differ from ComfyUI's, then those that don't.
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
[time_in|vector_in|guidance_in|time_r_in].[in_layer|out_layer] <
byt5_in.[layernorm|fc1|fc2|fc3] <
vision_in.proj.[0|1|3|4] <
cond_type_embedding <
final_layer.linear <
final_layer.adaLN_modulation.1 <
"""
BLOCKS = "".join((UNMAPPED, ATTENTION, MLP, MODULATION, LINEAR1, REFINER, ENDS, SWAPPED, ORIGINAL, OLD_NORMS))


def hunyuan(
    name: str, width: int, double: int, single: int, embedders: str, encoders: tuple[Encoder, ...], pipe: bool = True
) -> Architecture:
    """``embedders``: a key of EMBEDDERS; ``pipe``: whether ComfyUI maps diffusion-pipe's names."""
    embedder_names = "".join(
        lines.replace("{}", "=" if name == embedders else "<") for name, lines in EMBEDDERS.items()
    )
    pipe_names = "".join(
        line for line in PIPE.splitlines(keepends=True) if pipe or not line.startswith("mapped under:")
    )
    return Architecture(
        name=name,
        family="HunyuanVideo",
        table=BLOCKS + embedder_names + pipe_names,
        sizes=sizes(width, 4, gated=False),
        encoders=encoders,
        blocks={"double_blocks": double, "single_blocks": single},
        defers_to=("Flux",),
    )


HUNYUAN_VIDEO = hunyuan("HunyuanVideo", 3072, 20, 40, "time_text_embed", (clip_l(also=("te2",)), LLAMA))
HUNYUAN_VIDEO_15 = hunyuan("HunyuanVideo 1.5", 2048, 54, 0, "time_embed", (qwen25_7b(), BYT5))
# ComfyUI maps only the own paths of HunyuanImage.
HUNYUAN_IMAGE = hunyuan("HunyuanImage 2.1", 3584, 20, 40, "time_guidance_embed", (qwen25_7b(), BYT5), pipe=False)
HUNYUAN_IMAGE_REFINER = hunyuan(
    "HunyuanImage 2.1 Refiner", 3328, 20, 40, "time_guidance_embed", (qwen25_7b(),), pipe=False
)
