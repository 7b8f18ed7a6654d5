"""Wan 2.1 and 2.2. ComfyUI maps their own paths only; diffusers and its trainers write attn1, attn2 and ffn.net.

The pairs come from diffusers' checkpoint converters (scripts/convert_wan_to_diffusers.py). VACE, camera control, S2V,
HuMo, Animate, SCAIL and Dancer add layers to the same model; CausalAR and FlowRVS add none.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import UMT5

IN_BLOCK = """
    [self_attn|cross_attn].[q|k|v] : w,w = [attn1|attn2].[to_q|to_k|to_v]
    [self_attn|cross_attn].o : w,w = [attn1|attn2].to_out.0
    [self_attn|cross_attn].[norm_q|norm_k] = [attn1|attn2].[norm_q|norm_k]
    cross_attn.[k_img|v_img] : w,w = attn2.[add_k_proj|add_v_proj]
    cross_attn.norm_k_img = attn2.norm_added_k
    ffn.0 : h,w = ffn.net.0.proj
    ffn.2 : w,h = ffn.net.2
    norm3 = norm2     # diffusers numbers its norms in the order of use
    modulation!
"""
TABLE = f"""
blocks.{{b}}.{IN_BLOCK}
    # diffusers' Wan Animate 2
    [self_attn|cross_attn].[q|k|v] < [self_attn|cross_attn].[to_q|to_k|to_v]
    [self_attn|cross_attn].o < [self_attn|cross_attn].to_out.0
    cross_attn.[k_img|v_img|norm_k_img] < cross_attn.[add_k_proj|add_v_proj|norm_added_k]
patch_embedding =
text_embedding.[0|2] = condition_embedder.text_embedder.[linear_1|linear_2]
time_embedding.[0|2] = condition_embedder.time_embedder.[linear_1|linear_2]
time_projection.1 : 6w,w = condition_embedder.time_proj
head.head = proj_out
head.modulation!
img_emb.proj.[0|4] = condition_embedder.image_embedder.[norm1|norm2]
img_emb.proj.[1|3] = condition_embedder.image_embedder.ff.[net.0.proj|net.2]
img_emb.emb_pos!
ref_conv     # Fun control

# VACE
vace_blocks.{{n}}.{IN_BLOCK}
    [before_proj|after_proj] : w,w = [proj_in|proj_out]
vace_patch_embedding =

# camera control
control_adapter.conv
control_adapter.residual_blocks.{{n}}.[conv1|conv2]

# S2V
trainable_cond_mask
cond_encoder
casual_audio_encoder.weights!
casual_audio_encoder.encoder.[conv1_local|conv1_global|conv2|conv3].conv
casual_audio_encoder.encoder.final_linear
casual_audio_encoder.encoder.padding_tokens!
audio_injector.injector.{{n}}.[q|k|v|o] : w,w
audio_injector.injector.{{n}}.[norm_q|norm_k]
audio_injector.injector_adain_layers.{{n}}.linear : 2w,w
frame_packer.[proj|proj_2x|proj_4x]

# HuMo
blocks.{{b}}.audio_cross_attn_wrapper.
    audio_cross_attn.[q|o] : w,w
    audio_cross_attn.[k|v|norm_q|norm_k]
    norm1_audio
audio_proj.[audio_proj_glob_1|audio_proj_glob_2|audio_proj_glob_3|audio_proj_glob_norm].layer

# Animate
pose_patch_embedding =
motion_encoder.enc. = motion_encoder.
    net_app.convs.0.0 = conv_in
    net_app.convs.[1|2|3|4|5|6|7].[conv1.0|conv2.1|skip.1] = res_blocks.[0|1|2|3|4|5|6].[conv1|conv2|conv_skip]
    net_app.convs.{{n}}.[conv2|skip].0.kernel!
    net_app.convs.{{n}}.[conv1.1|conv2.2].bias!     # of the activation after the layer, which has no weight
    net_app.convs.0.1.bias!
    net_app.convs.8 = conv_out
    fc.{{n}} = motion_network.{{n}}
motion_encoder.dec.direction
face_adapter.fuser_blocks.{{n}}. = face_adapter.{{n}}.
    linear1_kv : 2w,w = (to_k + to_v)
    [linear1_q|linear2] : w,w = [to_q|to_out]
    [q_norm|k_norm] = [norm_q|norm_k]
face_encoder.[conv1_local|conv2|conv3].conv = face_encoder.[conv1_local|conv2|conv3]
face_encoder.out_proj =
face_encoder.padding_tokens!

# SCAIL
[patch_embedding_pose|patch_embedding_mask]

# Dancer
patch_embedding_global
head_global.head
head_global.modulation!
img_emb_refimage.proj.[0|1|3|4]
music_projection
music_encoder.{{n}}.self_attn.[q_proj|k_proj|v_proj|out_proj]
music_encoder.{{n}}.[linear1|linear2|norm1|norm2]
music_injector.injector.{{n}}.[q|k|v|o] : w,w
music_injector.injector.{{n}}.[norm_q|norm_k]
"""  # noqa: E501


def wan(name: str, width: int, hidden: int, blocks: int) -> Architecture:
    return Architecture(
        name=name,
        family="Wan",
        table=TABLE,
        sizes={"w": width, "h": hidden},
        encoders=(UMT5,),
        blocks={"blocks": blocks},
    )


WAN_14B = wan("Wan 2.1/2.2 14B", 5120, 13824, 40)
WAN_1_3B = wan("Wan 2.1 1.3B", 1536, 8960, 30)
WAN_5B = wan("Wan 2.2 5B", 3072, 14336, 30)
