"""OmniGen2, and Boogu, which has double layers before the single ones. Nothing is fused.

ComfyUI and trainers have the paths of the official models; ComfyUI maps them bare as well.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import language_model, qwen3_vl

IN_LAYER = """
    attn.[to_q|to_out.0] : w,w =
    attn.[to_k|to_v] : k,w =
    attn.[norm_q|norm_k] =
    feed_forward.[linear_1|linear_3] : h,w =
    feed_forward.linear_2 : w,h =
    [ffn_norm1|norm2|ffn_norm2] =
"""
MODULATED = """
    norm1.linear : 4w,1024 =
    norm1.norm =
"""
COMMON = f"""
[noise_refiner|ref_image_refiner].{{n}}.{IN_LAYER}{MODULATED}
context_refiner.{{n}}.{IN_LAYER}
    norm1 =
[x_embedder|ref_image_patch_embedder] =
time_caption_embed.timestep_embedder.[linear_1|linear_2] =
time_caption_embed.caption_embedder.[0|1] =
norm_out.[linear_1|linear_2] =
image_index_embedding! =
"""
# The joint attention of image and instruction keeps its weights in the processor.
DOUBLE = """
double_stream_layers.{b}.
    img_instruct_attn.processor.[img_to_q|img_out|instruct_to_q|instruct_out] : w,w =
    img_instruct_attn.processor.[img_to_k|img_to_v|instruct_to_k|instruct_to_v] : k,w =
    img_self_attn.to_q : w,w =
    img_self_attn.[to_k|to_v] : k,w =
    [img_instruct_attn|img_self_attn].to_out.0 : w,w =
    [img_instruct_attn|img_self_attn].[norm_q|norm_k] =
    [img_feed_forward|instruct_feed_forward].[linear_1|linear_3] : h,w =
    [img_feed_forward|instruct_feed_forward].linear_2 : w,h =
    [img_norm1|img_norm2|img_norm3|instruct_norm1|instruct_norm2].linear : 4w,1024 =
    [img_norm1|img_norm2|img_norm3|instruct_norm1|instruct_norm2].norm =
    [img_attn_norm|img_self_attn_norm|img_ffn_norm1|img_ffn_norm2] =
    [instruct_attn_norm|instruct_ffn_norm1|instruct_ffn_norm2] =
"""

OMNIGEN2 = Architecture(
    name="OmniGen2",
    table=f"{COMMON}layers.{{b}}.{IN_LAYER}{MODULATED}",
    sizes={"w": 2520, "k": 840, "h": 10240},
    encoders=(language_model("qwen25_3b", width=2048),),
    blocks={"layers": 32},
    prefixes=(*GENERIC, ""),
)
BOOGU = Architecture(
    name="Boogu",
    table=f"{COMMON}{DOUBLE}single_stream_layers.{{b}}.{IN_LAYER}{MODULATED}",
    sizes={"w": 3360, "k": 840, "h": 13568},
    encoders=(qwen3_vl("qwen3vl_8b", 4096),),
    blocks={"double_stream_layers": 8, "single_stream_layers": 32},
    prefixes=(*GENERIC, ""),
)
