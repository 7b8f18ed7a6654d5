"""HunyuanVideo, HunyuanVideo 1.5 and HunyuanImage 2.1: Flux's blocks with a token refiner before them.

ComfyUI maps diffusion-pipe's spelling of HunyuanVideo besides its own (model_lora_keys_unet). The original's other
names and those of diffusers are what diffusers' converter of the checkpoint knows.
"""

from __future__ import annotations

from dataclasses import replace

from ..model import GENERIC, Architecture, Rule, renamed, rows, swapped
from ..patterns import expand
from .encoders import clip_l, language_model
from .flux import (
    BLOCKS,
    IN_DOUBLE,
    LINEAR1,
    MLP,
    MODULATION,
    MODULATIONS,
    NORMS,
    SINGLE,
    SINGLE_NORMS,
    THEIR_SINGLE,
    old_norms,
    shapes,
)

REFINER = "txt_in.individual_token_refiner.blocks.{n}."
THEIR_REFINER = "context_embedder.token_refiner.refiner_blocks.{n}."
WEIGHTS = (
    *BLOCKS,
    *MODULATION,
    REFINER + "self_attn.[qkv|proj]",
    REFINER + "[norm1|norm2]",
    REFINER + "mlp.[0|2]",
    REFINER + "adaLN_modulation.1",
    "txt_in.input_embedder",
    "txt_in.[t_embedder|c_embedder].[in_layer|out_layer]",
    "img_in.proj",
    "[time_in|vector_in|guidance_in].[in_layer|out_layer]",
    "final_layer.linear",
    "final_layer.adaLN_modulation.1",
)
LATER = (  # 1.5 and HunyuanImage
    "time_r_in.[in_layer|out_layer]",
    "byt5_in.[layernorm|fc1|fc2|fc3]",
    "vision_in.proj.{n}",
    "cond_type_embedding",
)

DIFFUSERS = [
    *IN_DOUBLE,
    *MLP,
    *MODULATIONS,
    *SINGLE_NORMS,
    *rows(SINGLE + "linear1", LINEAR1, THEIR_SINGLE),
    Rule(THEIR_SINGLE + "proj_out", SINGLE + "linear2"),
    *rows(REFINER + "self_attn.qkv", (("to_q", 1), ("to_k", 1), ("to_v", 1)), THEIR_REFINER + "attn."),
    *renamed(
        (
            ("attn.to_out.0", "self_attn.proj"),
            ("norm1", "norm1"),
            ("norm2", "norm2"),
            ("norm_out.linear", "adaLN_modulation.1"),  # a pair of gates, which diffusers leaves in order
            ("ff.net.0.proj", "mlp.0"),
            ("ff.net.2", "mlp.2"),
        ),
        THEIR_REFINER,
        REFINER,
    ),
    *renamed(
        (
            ("x_embedder.proj", "img_in.proj"),
            ("context_embedder.proj_in", "txt_in.input_embedder"),
            ("context_embedder.time_text_embed.timestep_embedder.linear_1", "txt_in.t_embedder.in_layer"),
            ("context_embedder.time_text_embed.timestep_embedder.linear_2", "txt_in.t_embedder.out_layer"),
            ("context_embedder.time_text_embed.text_embedder.linear_1", "txt_in.c_embedder.in_layer"),
            ("context_embedder.time_text_embed.text_embedder.linear_2", "txt_in.c_embedder.out_layer"),
            ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
            ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
            ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
            ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
            ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
            ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
            ("proj_out", "final_layer.linear"),
        )
    ),
    swapped("norm_out.linear", "final_layer.adaLN_modulation.1"),
]
ORIGINAL = renamed(
    (
        ("time_in.mlp.0", "time_in.in_layer"),
        ("time_in.mlp.2", "time_in.out_layer"),
        ("guidance_in.mlp.0", "guidance_in.in_layer"),
        ("guidance_in.mlp.2", "guidance_in.out_layer"),
        ("txt_in.t_embedder.mlp.0", "txt_in.t_embedder.in_layer"),
        ("txt_in.t_embedder.mlp.2", "txt_in.t_embedder.out_layer"),
        ("txt_in.c_embedder.linear_1", "txt_in.c_embedder.in_layer"),
        ("txt_in.c_embedder.linear_2", "txt_in.c_embedder.out_layer"),
    ),
    diffusers=False,
)
# What diffusion-pipe writes for the end of a weight's path; everything else it writes as ComfyUI does.
PIPE_ENDS = (
    ("_mod.lin", "_mod.linear"),
    (".modulation.lin", ".modulation.linear"),
    ("_attn.qkv", "_attn_qkv"),
    ("_attn.proj", "_attn_proj"),
    ("mlp.0", "mlp.fc1"),
    ("mlp.2", "mlp.fc2"),
)


def diffusion_pipe(weights: tuple[str, ...]) -> list[Rule]:
    """diffusion-pipe's spelling, which ComfyUI maps under `transformer.` and, where it differs, `diffusion_model.`."""
    rules = []
    for weight in expand(*weights):
        alias = next((weight.removesuffix(end) + theirs for end, theirs in PIPE_ENDS if weight.endswith(end)), weight)
        prefixes = ("transformer.",) if alias == weight else ("transformer.", "diffusion_model.")
        # the norms' parameter is no weight up to 0.3.75, so that nothing maps it there
        rules.append(Rule(alias, weight, prefixes=() if weight in UNSURE else prefixes, diffusers=False))
    return rules


UNSURE = frozenset(expand(*NORMS))


def hunyuan(
    name: str, width: int, double: int, single: int, later: bool, encoders: tuple, pipe: bool = True
) -> Architecture:
    weights = (*WEIGHTS, *LATER) if later else WEIGHTS
    rules = [*DIFFUSERS, *ORIGINAL, *old_norms(), *diffusion_pipe(weights)]
    return Architecture(
        name=name,
        kin="HunyuanVideo",
        size=width,
        weights=weights,
        rules=tuple(rules if pipe else (replace(rule, prefixes=()) for rule in rules)),
        encoders=encoders,
        blocks={"double_blocks": double, "single_blocks": single},
        shapes=shapes(width, 4, gated=False),
        prefixes=GENERIC,
        unsure=UNSURE,
        yields_to=("Flux",),
    )


HUNYUAN_VIDEO = hunyuan(
    "HunyuanVideo", 3072, 20, 40, False, (clip_l(), language_model("llama", diffusers="", part="te"))
)
HUNYUAN_VIDEO_15 = hunyuan("HunyuanVideo 1.5", 2048, 54, 0, True, (language_model("qwen25_7b"),))
# ComfyUI knows HunyuanImage by its own paths alone
HUNYUAN_IMAGE = hunyuan("HunyuanImage 2.1", 3584, 20, 40, True, (language_model("qwen25_7b"),), pipe=False)
