"""LTX-Video and LTX 2 (also 2.3 and 2.5): ComfyUI has diffusers' blocks, with other names for the ends and the norms.

ComfyUI maps their own paths. 0.33 maps them bare as well; for LTX 2 every ComfyUI that has it does. The pairs come from
diffusers' converters (scripts/convert_ltx2_to_diffusers.py). In diffusers LTX 2's connectors are a model of their own,
`connectors.` in a LoRA. They are wider from 2.3 on, and have gates.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture
from .encoders import GEMMA3_12B, LTX2_PROJECTIONS, t5

VIDEO = """
transformer_blocks.{b}.
    attn1.[to_q|to_k|to_v|to_out.0] : w,w =
    attn2.[to_q|to_out.0] : w,w =
    attn2.[to_k|to_v] : w,c =
    [attn1|attn2].[q_norm|k_norm] = [attn1|attn2].[norm_q|norm_k]
    ff.net.0.proj : 4w,w =
    ff.net.2 : w,4w =
    scale_shift_table!
patchify_proj = proj_in
adaln_single.emb.timestep_embedder.[linear_1|linear_2] = time_embed.emb.timestep_embedder.[linear_1|linear_2]
adaln_single.linear = time_embed.linear
caption_projection.[linear_1|linear_2] =
proj_out =
scale_shift_table!
"""
# a: width of the audio stream
SOUND = """
transformer_blocks.{b}.
    [audio_attn1|audio_attn2].[to_q|to_k|to_v|to_out.0] : a,a =
    audio_to_video_attn.to_q : a,w =
    audio_to_video_attn.[to_k|to_v] : a,a =
    audio_to_video_attn.to_out.0 : w,a =
    video_to_audio_attn.[to_q|to_out.0] : a,a =
    video_to_audio_attn.[to_k|to_v] : a,w =
    [audio_attn1|audio_attn2].[q_norm|k_norm] = [audio_attn1|audio_attn2].[norm_q|norm_k]
    [audio_to_video|video_to_audio]_attn.[q_norm|k_norm] = [audio_to_video|video_to_audio]_attn.[norm_q|norm_k]
    [attn1|attn2|audio_attn1|audio_attn2|audio_to_video_attn|video_to_audio_attn].to_gate_logits =
    audio_ff.net.0.proj : 4a,a =
    audio_ff.net.2 : a,4a =
    [audio|prompt|audio_prompt]_scale_shift_table!
    scale_shift_table_a2v_ca_[audio|video]!
audio_patchify_proj = audio_proj_in
audio_caption_projection.[linear_1|linear_2] =
audio_proj_out =
audio_scale_shift_table!
keyframes_abs_pos_embedding!
[audio_|prompt_|audio_prompt_]adaln_single. = [audio_time_embed|prompt_adaln|audio_prompt_adaln].
    emb.timestep_embedder.[linear_1|linear_2] =
    linear =
av_ca_[video_scale_shift|a2v_gate|audio_scale_shift|v2a_gate]_adaln_single. = av_cross_attn_[video_scale_shift|video_a2v_gate|audio_scale_shift|audio_v2a_gate].
    emb.timestep_embedder.[linear_1|linear_2] =
    linear =
[audio|video]_embeddings_connector. = connectors.[audio|video]_connector.
    transformer_1d_blocks.{n}.attn1.[to_q|to_k|to_v|to_out.0|to_gate_logits] < transformer_blocks.{n}.attn1.[to_q|to_k|to_v|to_out.0|to_gate_logits]
    transformer_1d_blocks.{n}.attn1.[q_norm|k_norm] < transformer_blocks.{n}.attn1.[norm_q|norm_k]
    transformer_1d_blocks.{n}.ff.[net.0.proj|net.2] < transformer_blocks.{n}.ff.[net.0.proj|net.2]
    learnable_registers!
"""  # noqa: E501


def ltx(name: str, width: int, blocks: int) -> Architecture:
    return Architecture(
        name=name,
        family="LTX-Video",
        table=VIDEO,
        sizes={"w": width, "c": width},
        encoders=(t5("te1", ("lora_te1_",), "text_encoder."),),
        blocks={"transformer_blocks": blocks},
    )


LTX = ltx("LTX-Video", 2048, 28)
LTX_13B = ltx("LTX-Video 13B", 4096, 48)
LTX2 = Architecture(
    name="LTX 2",
    family="LTX-Video",
    table=VIDEO + SOUND,
    sizes={"w": 4096, "c": 4096, "a": 2048},
    encoders=(GEMMA3_12B, LTX2_PROJECTIONS),
    blocks={"transformer_blocks": 48},
    prefixes=(*GENERIC, ""),
)
