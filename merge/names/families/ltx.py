"""LTX-Video and LTX 2. ComfyUI's model has diffusers' blocks, with other names for the ends and the norms.

ComfyUI maps their own paths; 0.33 maps them bare as well. The pairs are those of diffusers' converters.
"""

from __future__ import annotations

from ..model import Architecture, Rule
from ..patterns import expand
from .encoders import language_model, t5

BLOCK = "transformer_blocks.{b}."
ATTENTION = ".[to_q|to_k|to_v|to_out.0|q_norm|k_norm]"
WEIGHTS = (
    BLOCK + "[attn1|attn2]" + ATTENTION,
    BLOCK + "ff.[net.0.proj|net.2]",
    "patchify_proj",
    "adaln_single.emb.timestep_embedder.[linear_1|linear_2]",
    "adaln_single.linear",
    "caption_projection.[linear_1|linear_2]",
    "proj_out",
)
SOUND = (
    BLOCK + "[audio_attn1|audio_attn2|audio_to_video_attn|video_to_audio_attn]" + ATTENTION,
    BLOCK + "audio_ff.[net.0.proj|net.2]",
    BLOCK + "[attn1|attn2|audio_attn1|audio_attn2|audio_to_video_attn|video_to_audio_attn].to_gate_logits",
    "audio_patchify_proj",
    "audio_adaln_single.emb.timestep_embedder.[linear_1|linear_2]",
    "audio_adaln_single.linear",
    "audio_caption_projection.[linear_1|linear_2]",
    "audio_proj_out",
    "[prompt_adaln_single|audio_prompt_adaln_single].emb.timestep_embedder.[linear_1|linear_2]",
    "[prompt_adaln_single|audio_prompt_adaln_single].linear",
    "av_ca_[video_scale_shift|a2v_gate|audio_scale_shift|v2a_gate]_adaln_single.emb.timestep_embedder.[linear_1|linear_2]",
    "av_ca_[video_scale_shift|a2v_gate|audio_scale_shift|v2a_gate]_adaln_single.linear",
    "[audio|video]_embeddings_connector.transformer_1d_blocks.{n}.attn1" + ATTENTION,
    "[audio|video]_embeddings_connector.transformer_1d_blocks.{n}.attn1.to_gate_logits",
    "[audio|video]_embeddings_connector.transformer_1d_blocks.{n}.ff.[net.0.proj|net.2]",
)
# Parts of a path, from the more particular to the less: theirs stand on the right.
PARTS = (
    ("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"),
    ("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
    ("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"),
    ("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
    ("audio_patchify_proj", "audio_proj_in"),
    ("patchify_proj", "proj_in"),
    ("audio_adaln_single", "audio_time_embed"),
    ("adaln_single", "time_embed"),
    ("q_norm", "norm_q"),
    ("k_norm", "norm_k"),
)


def theirs(weight: str) -> str:
    """What diffusers calls a weight."""
    parts = dict(PARTS)
    return ".".join(parts.get(part, part) for part in weight.split("."))


def ltx(name: str, width: int, blocks: int, context: int, sound: bool) -> Architecture:
    weights = (*WEIGHTS, *SOUND) if sound else WEIGHTS
    square = expand(BLOCK + "attn1.[to_q|to_k|to_v|to_out.0]", BLOCK + "attn2.[to_q|to_out.0]")
    return Architecture(
        name=name,
        kin="LTX-Video",
        size=width,
        weights=weights,
        rules=tuple(
            Rule(theirs(weight), weight) for weight in expand(*weights) if "embeddings_connector" not in weight
        ),
        encoders=(language_model("gemma3_12b"),) if sound else (t5("te1", ("lora_te1_",), "text_encoder."),),
        blocks={"transformer_blocks": blocks},
        shapes={
            **dict.fromkeys(square, (width, width)),
            **dict.fromkeys(expand(BLOCK + "attn2.[to_k|to_v]"), (width, context)),
            BLOCK + "ff.net.0.proj": (4 * width, width),
            BLOCK + "ff.net.2": (width, 4 * width),
        },
    )


LTX = ltx("LTX-Video", 2048, 28, 2048, sound=False)
LTX_13B = ltx("LTX-Video 13B", 4096, 48, 4096, sound=False)
LTX2 = ltx("LTX 2", 4096, 48, 4096, sound=True)
