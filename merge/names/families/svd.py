"""Stable Video Diffusion and SV3D: SD 2's U-Net with a temporal layer after each resnet and each attention.

ComfyUI maps diffusers' paths of SD 2, although diffusers has other paths for this model, with a spatial and a temporal
resnet in each place. The pairs come from diffusers' conversion script.
"""

from __future__ import annotations

from .unet import ATTENTION, RESNET, SIZES, unet

OVER_TIME = """
mapped under:
{own}. = {theirs}.
    in_layers.[0|2] = spatial_res_block.[norm1|conv1]
    emb_layers.1 = spatial_res_block.time_emb_proj
    out_layers.[0|3] = spatial_res_block.[norm2|conv2]
    skip_connection = spatial_res_block.conv_shortcut
    time_stack.in_layers.[0|2] = temporal_res_block.[norm1|conv1]
    time_stack.emb_layers.1 = temporal_res_block.time_emb_proj
    time_stack.out_layers.[0|3] = temporal_res_block.[norm2|conv2]
    time_mixer.mix_factor! =
"""
ATTENTION_OVER_TIME = """
mapped under:
{own}.time_stack.0. = {theirs}.temporal_transformer_blocks.0.
    [attn1|attn2].[to_q|to_out.0] : {w},{w} =
    attn1.[to_k|to_v] : {w},{w} =
    attn2.[to_k|to_v] : {w},{c} =
    [ff_in|ff].net.0.proj : {w8},{w} =
    [ff_in|ff].net.2 : {w},{w4} =
    [norm_in|norm1|norm2|norm3] =
{own}. = {theirs}.
    time_pos_embed.[0|2] = time_pos_embed.[linear_1|linear_2]
    time_mixer.mix_factor! =
"""

SVD = unet(
    "SVD",
    widths=(320, 640, 1280, 1280),
    depths=(1, 1, 1, 0),
    context=1024,
    encoders=(),
    labels=SIZES.replace("<<", "<"),
    resnet=RESNET.replace(" = ", " < ").replace("{own}. < ", "{own}. = ") + OVER_TIME,
    attention=ATTENTION + ATTENTION_OVER_TIME,
    defers_to=("SD 1.5/2", "SDXL"),
)
