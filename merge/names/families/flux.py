"""Flux, Chroma and Flux 2: double and single blocks with fused weights (flux_to_diffusers, comfy/utils.py).

The rows of a single block's linear1 are q, k, v and the first layer of the MLP: 1 : 1 : 1 : 4 in Flux and Chroma,
1 : 1 : 1 : 6 in Flux 2, whose gated MLP has 2 x 3 widths.
"""

from __future__ import annotations

from ..model import Architecture, Encoder
from .encoders import clip_l, language_model, t5

# Every supported ComfyUI maps diffusers' paths under these; 0.33 maps them bare as well.
MAPPED = "\nmapped under: transformer. lycoris_ lora_transformer_\n"
UNMAPPED = "\nmapped under:\n"

ATTENTION = """
double_blocks.{b}. = transformer_blocks.{b}.
    img_attn.qkv : 3w,w = attn.(to_q + to_k + to_v)
    txt_attn.qkv : 3w,w = attn.(add_q_proj + add_k_proj + add_v_proj)
    img_attn.proj : w,w = attn.to_out.0
    txt_attn.proj : w,w = attn.to_add_out
    img_attn.norm.[query_norm|key_norm]? = attn.[norm_q|norm_k]
    txt_attn.norm.[query_norm|key_norm]? = attn.[norm_added_q|norm_added_k]
single_blocks.{b}.norm.[query_norm|key_norm]? = single_transformer_blocks.{b}.attn.[norm_q|norm_k]
"""
# m: width of the MLP, e: rows of its first layer, which Flux 2's gate doubles
MLP = """
double_blocks.{b}. = transformer_blocks.{b}.
    [img_mlp|txt_mlp].0 : e,w = [ff|ff_context].net.0.proj
    [img_mlp|txt_mlp].2 : w,m = [ff|ff_context].net.2
single_blocks.{b}.linear2 : w,o = single_transformer_blocks.{b}.proj_out
"""
MODULATION = """
double_blocks.{b}.[img_mod|txt_mod].lin : 6w,w = transformer_blocks.{b}.[norm1|norm1_context].linear
single_blocks.{b}.modulation.lin : 3w,w = single_transformer_blocks.{b}.norm.linear
"""
LINEAR1 = """
single_blocks.{b}. = single_transformer_blocks.{b}.
    linear1 : l,w = (attn.to_q + attn.to_k + attn.to_v + proj_mlp:4)
"""
ENDS = """
img_in = x_embedder
txt_in = context_embedder
final_layer.linear = proj_out
"""
SWAPPED = """
final_layer.adaLN_modulation.1 ~ norm_out.linear
"""
EMBEDDERS = """
[time_in|guidance_in].[in_layer|out_layer] = time_text_embed.[timestep|guidance]_embedder.[linear_1|linear_2]
"""
VECTOR = """
vector_in.[in_layer|out_layer] = time_text_embed.text_embedder.[linear_1|linear_2]
"""
# USO's LoRAs, as ComfyUI converts them: q, k and v of linear1 as one module, without the MLP's rows.
USO = "\nmapped under: diffusion_model.\nsingle_blocks.{b}.linear1 < single_blocks.{b}.(linear1_qkv:3 + _:%d)\n"
# The norms' parameter is called `scale` in ComfyUI up to 0.3.75 and `weight` in 0.33.
OLD_NORMS = """
mapped under:
double_blocks.{b}.[img_attn|txt_attn].norm.[query_norm|key_norm] < double_blocks.{b}.[img_attn|txt_attn].norm.[query_norm|key_norm].scale
single_blocks.{b}.norm.[query_norm|key_norm] < single_blocks.{b}.norm.[query_norm|key_norm].scale
"""  # noqa: E501

# Flux 2's names of these blocks. 0.33 maps them, even for Flux 1; 0.3.75 doesn't.
FLUX2_BLOCKS = """
double_blocks.{b}. = transformer_blocks.{b}.
    [img_mlp|txt_mlp].[0|2] = [ff|ff_context].[linear_in|linear_out]
single_blocks.{b}. = single_transformer_blocks.{b}.
    linear1 : l,w = attn.to_qkv_mlp_proj
    linear2 = attn.to_out
"""
FLUX2_ENDS = """
[time_in|guidance_in].[in_layer|out_layer] = time_guidance_embed.[timestep|guidance]_embedder.[linear_1|linear_2]
[double_stream_modulation_img|double_stream_modulation_txt|single_stream_modulation].lin = [double_stream_modulation_img|double_stream_modulation_txt|single_stream_modulation].linear
"""  # noqa: E501


def only_read(table: str) -> str:
    """The table for a model that nobody writes these names for, although ComfyUI maps them: it shares another's map."""
    return table.replace(" = ", " << ").replace(".{b}. << ", ".{b}. = ")


FLUX_TABLE = (
    *(MAPPED, ATTENTION, ENDS, SWAPPED, MLP, MODULATION, EMBEDDERS, VECTOR, LINEAR1),
    *(UNMAPPED, only_read(FLUX2_BLOCKS), USO % 4, OLD_NORMS),
)
FLUX2_TABLE = (
    *(MAPPED, ATTENTION, ENDS, SWAPPED, UNMAPPED, FLUX2_BLOCKS, FLUX2_ENDS),
    *(MAPPED, only_read(MLP), only_read(EMBEDDERS)),
    # ComfyUI maps proj_mlp to four widths, as in Flux 1; the last two have no name
    only_read(LINEAR1).replace("proj_mlp:4", "proj_mlp:4 + _:2"),
    *(USO % 6, OLD_NORMS),
)
CHROMA_TABLE = (
    *(MAPPED, ATTENTION, ENDS, MLP, LINEAR1, UNMAPPED, only_read(FLUX2_BLOCKS), USO % 4, OLD_NORMS),
    """
mapped under:
distilled_guidance_layer.
    in_proj =
    out_proj =
    layers.{n}.[in_layer|out_layer] = layers.{n}.[linear_1|linear_2]
    norms.{n}? =
    norms.{n} < norms.{n}.scale
# Chroma Radiance, the pixel-space model
img_in_patch
nerf_image_embedder.embedder.{n}
nerf_blocks.{n}.param_generator
nerf_blocks.{n}.norm? < nerf_blocks.{n}.norm.scale
[nerf_final_layer|nerf_final_layer_conv].norm? < [nerf_final_layer|nerf_final_layer_conv].norm.scale
nerf_final_layer.linear
nerf_final_layer_conv.conv
""",
)


def sizes(width: int, mlp: int, gated: bool) -> dict[str, int]:
    """``mlp``: width of the MLP, in widths of the model; ``gated``: its first layer has twice as many rows."""
    enters = 2 * mlp if gated else mlp
    return {"w": width, "m": mlp * width, "e": enters * width, "l": (3 + enters) * width, "o": (1 + mlp) * width}


# diffusion-pipe's names for HunyuanVideo; without the dots they are Flux's.
HUNYUAN_DOTS = (".img_attn_qkv", ".img_attn_proj", ".txt_attn_qkv", ".txt_attn_proj")

FLUX = Architecture(
    name="Flux",
    table="".join(FLUX_TABLE),
    sizes=sizes(3072, 4, gated=False),
    encoders=(clip_l(), t5("te2", ("lora_te3_", "lora_te2_"), "text_encoder_2.", also=("te3",))),
    blocks={"double_blocks": 19, "single_blocks": 38},
    excluded=HUNYUAN_DOTS,
)
CHROMA = Architecture(
    name="Chroma",
    family="Flux",
    table="".join(CHROMA_TABLE),
    sizes=sizes(3072, 4, gated=False),
    encoders=(t5("te1", ("lora_te1_",), "text_encoder."),),
    blocks={"double_blocks": 19, "single_blocks": 38},
    excluded=HUNYUAN_DOTS,
)


def flux2(name: str, width: int, double: int, single: int, encoder: Encoder) -> Architecture:
    return Architecture(
        name=name,
        family="Flux 2",
        table="".join(FLUX2_TABLE),
        sizes=sizes(width, 3, gated=True),
        encoders=(encoder,),
        blocks={"double_blocks": double, "single_blocks": single},
        excluded=HUNYUAN_DOTS,
        defers_to=("Flux",),
    )


FLUX2 = flux2("Flux 2", 6144, 8, 48, language_model("mistral3_24b", width=5120))
KLEIN_4B = flux2("Flux 2 Klein 4B", 3072, 5, 20, language_model("qwen3_4b", width=2560))
KLEIN_9B = flux2("Flux 2 Klein 9B", 4096, 8, 24, language_model("qwen3_8b", width=4096))
