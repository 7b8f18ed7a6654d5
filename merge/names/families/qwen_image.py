"""Qwen-Image and Qwen-Image-Edit. ComfyUI's model has diffusers' paths, and ComfyUI maps them under any prefix."""

from __future__ import annotations

from ..model import GENERIC, Architecture, Rule
from ..patterns import expand
from .encoders import language_model

BLOCK = "transformer_blocks.{b}."
WIDTH = 3072
WEIGHTS = (
    BLOCK + "attn.[to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out]",
    BLOCK + "attn.[norm_q|norm_k|norm_added_q|norm_added_k]",
    BLOCK + "[img_mod|txt_mod].1",
    BLOCK + "[img_mlp|txt_mlp].[net.0.proj|net.2]",
    "img_in",
    "txt_in",
    "txt_norm",
    "time_text_embed.timestep_embedder.[linear_1|linear_2]",
    "norm_out.linear",
    "proj_out",
)

QWEN_IMAGE = Architecture(
    name="Qwen-Image",
    kin="Qwen-Image",
    size=WIDTH,
    weights=WEIGHTS,
    rules=tuple(Rule(weight, weight) for weight in expand(*WEIGHTS)),
    encoders=(language_model("qwen25_7b"),),
    blocks={"transformer_blocks": 60},
    shapes={
        **dict.fromkeys(expand(WEIGHTS[0]), (WIDTH, WIDTH)),
        **dict.fromkeys(expand(BLOCK + "[img_mod|txt_mod].1"), (6 * WIDTH, WIDTH)),
        **dict.fromkeys(expand(BLOCK + "[img_mlp|txt_mlp].net.0.proj"), (4 * WIDTH, WIDTH)),
        **dict.fromkeys(expand(BLOCK + "[img_mlp|txt_mlp].net.2"), (WIDTH, 4 * WIDTH)),
    },
    prefixes=(*GENERIC, "", "transformer.", "lycoris_"),
)
