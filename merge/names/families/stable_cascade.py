"""Stable Cascade: stage C (the prior, the one that LoRAs are trained for) and stage B, each in two sizes.

A level is a list of residual, time and attention blocks. ComfyUI and diffusers split the original's fused attention
weight, diffusers without the `attn.` in the path; OneTrainer's original format numbers q, k and v. ComfyUI also maps
stage C's own paths under OneTrainer's older prefix. The pairs come from diffusers' converter.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import CLIP_G_CASCADE

COMMON = """
[down_blocks|up_blocks].{b}.{n}.
    attention.attn.[to_q|to_k|to_v|out_proj] : w,w = attention.[to_q|to_k|to_v|to_out.0]
    attention.attn.[to_q|to_k|to_v] < attention.attn.in_proj.[0|1|2]
    kv_mapper.1 : w,c =
    [depthwise|mapper|mapper_sca] =
    channelwise.[0|4] =
    channelwise.2.[gamma|beta]! =
embedding.1 =
clf.1 =
"""
STAGE_C = """
[down_blocks|up_blocks].{b}.{n}.
    [mapper|mapper_sca|mapper_crp] : 2w,64
    mapper_crp =
    channelwise.4 : w,4w
down_blocks.{b}.{n}.channelwise.0 : 4w,w     # on the way up, the first of a level has more columns
[clip_txt_mapper|clip_txt_pooled_mapper|clip_img_mapper] =
down_downscalers.1.1.blocks.0 =
up_upscalers.0.1.blocks.1 =
"""
STAGE_B = """
clip_mapper = clip_txt_pooled_mapper
[effnet_mapper|pixels_mapper].[0|2] =
down_downscalers.{n}.1 =
up_upscalers.{n}.1 =
up_repeat_mappers.{n}.{m} =
"""


def stage_c(name: str, width: int) -> Architecture:
    return Architecture(
        name=name,
        family="Stable Cascade C",
        table=COMMON + STAGE_C,
        sizes={"w": width, "c": width},
        encoders=(CLIP_G_CASCADE,),
        blocks={"down_blocks": 2, "up_blocks": 2},
        prefixes=(*GENERIC, "lora_prior_unet_"),
        diffusers_prefix="prior.",
    )


def stage_b(name: str, width: int) -> Architecture:
    """``width``: that of the levels with attention."""
    return Architecture(
        name=name,
        family="Stable Cascade B",
        table=COMMON + STAGE_B,
        sizes={"w": width, "c": 1280},
        encoders=(CLIP_G_CASCADE,),
        blocks={"down_blocks": 4, "up_blocks": 4},
        diffusers_prefix="unet.",
        defers_to=("Stable Cascade C",),
    )


CASCADE_C = stage_c("Stable Cascade C", 2048)
CASCADE_C_LITE = stage_c("Stable Cascade C lite", 1536)
CASCADE_B = stage_b("Stable Cascade B", 1280)
CASCADE_B_LITE = stage_b("Stable Cascade B lite", 1152)
