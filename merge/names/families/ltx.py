"""LTX-Video and LTX 2. ComfyUI's model has diffusers' blocks, with other names for the ends and the norms.

ComfyUI maps their own paths; 0.33 maps them bare as well. The pairs are those of diffusers' converters. diffusers keeps
LTX 2's connectors as a model of their own, whose paths begin with `connectors.` in a LoRA.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import GEMMA3_12B, LTX2_PROJECTIONS, t5

ATTENTION = ".[to_q|to_k|to_v|to_out.0|q_norm|k_norm] = %s.[to_q|to_k|to_v|to_out.0|norm_q|norm_k]"


def attentions(*names: str) -> str:
    return "".join(f"    {name}{ATTENTION % name}\n" for name in names)


VIDEO = """
transformer_blocks.{b}.
    attn1.[to_q|to_k|to_v|to_out.0] : w,w =
    attn2.[to_q|to_out.0] : w,w =
    attn2.[to_k|to_v] : w,c =
    [attn1|attn2].[q_norm|k_norm] = [attn1|attn2].[norm_q|norm_k]
    ff.net.0.proj : 4w,w =
    ff.net.2 : w,4w =
patchify_proj = proj_in
adaln_single.emb.timestep_embedder.[linear_1|linear_2] = time_embed.emb.timestep_embedder.[linear_1|linear_2]
adaln_single.linear = time_embed.linear
caption_projection.[linear_1|linear_2] =
proj_out =
"""
GATES = "[attn1|attn2|audio_attn1|audio_attn2|audio_to_video_attn|video_to_audio_attn].to_gate_logits"
SOUND = f"""
transformer_blocks.{{b}}.
{attentions("audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")}
    audio_ff.[net.0.proj|net.2] =
    {GATES} =
audio_patchify_proj = audio_proj_in
audio_adaln_single. = audio_time_embed.
    emb.timestep_embedder.[linear_1|linear_2] =
    linear =
audio_caption_projection.[linear_1|linear_2] =
audio_proj_out =
[prompt_adaln_single|audio_prompt_adaln_single].emb.timestep_embedder.[linear_1|linear_2] =
[prompt_adaln_single|audio_prompt_adaln_single].linear =
av_ca_[video_scale_shift|a2v_gate|audio_scale_shift|v2a_gate]_adaln_single. = av_cross_attn_[video_scale_shift|video_a2v_gate|audio_scale_shift|audio_v2a_gate].
    emb.timestep_embedder.[linear_1|linear_2] =
    linear =
[audio|video]_embeddings_connector.transformer_1d_blocks.{{n}}. = connectors.[audio|video]_connector.transformer_blocks.{{n}}.
    attn1.[to_q|to_k|to_v|to_out.0|to_gate_logits] <
    attn1.[q_norm|k_norm] < attn1.[norm_q|norm_k]
    ff.[net.0.proj|net.2] <
"""  # noqa: E501


def ltx(name: str, width: int, blocks: int, context: int, sound: bool) -> Architecture:
    return Architecture(
        name=name,
        family="LTX-Video",
        table=VIDEO + SOUND if sound else VIDEO,
        sizes={"w": width, "c": context},
        encoders=(GEMMA3_12B, LTX2_PROJECTIONS) if sound else (t5("te1", ("lora_te1_",), "text_encoder."),),
        blocks={"transformer_blocks": blocks},
    )


LTX = ltx("LTX-Video", 2048, 28, 2048, sound=False)
LTX_13B = ltx("LTX-Video 13B", 4096, 48, 4096, sound=False)
LTX2 = ltx("LTX 2", 4096, 48, 4096, sound=True)
