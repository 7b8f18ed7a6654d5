"""Flux, Chroma and Flux 2: double and single blocks with fused weights (flux_to_diffusers, comfy/utils.py).

A single block's linear1 holds q, k, v and what goes into the MLP, one above the other: 1 : 1 : 1 : 4 of its rows in
Flux and Chroma, 1 : 1 : 1 : 6 in Flux 2, whose gated MLP takes twice three widths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..model import Architecture, Rule, renamed, rows, swapped, under
from ..patterns import expand
from .encoders import clip_l, language_model, t5

DOUBLE, SINGLE = "double_blocks.{b}.", "single_blocks.{b}."
THEIR_DOUBLE, THEIR_SINGLE = "transformer_blocks.{b}.", "single_transformer_blocks.{b}."

NORMS = (DOUBLE + "[img_attn|txt_attn].norm.[query_norm|key_norm]", SINGLE + "norm.[query_norm|key_norm]")
BLOCKS = (
    DOUBLE + "[img_attn|txt_attn].[qkv|proj]",
    DOUBLE + "[img_mlp|txt_mlp].[0|2]",
    SINGLE + "[linear1|linear2]",
    *NORMS,
)
MODULATION = (DOUBLE + "[img_mod|txt_mod].lin", SINGLE + "modulation.lin")
ENDS = ("img_in", "txt_in", "final_layer.linear")
FLUX_ENDS = (
    "[time_in|vector_in|guidance_in].[in_layer|out_layer]",
    "final_layer.adaLN_modulation.1",
)
CHROMA_ENDS = (
    "distilled_guidance_layer.[in_proj|out_proj]",
    "distilled_guidance_layer.layers.{n}.[in_layer|out_layer]",
    "distilled_guidance_layer.norms.{n}",
    # Chroma Radiance, which works on pixels
    "img_in_patch",
    "nerf_image_embedder.embedder.{n}",
    "nerf_blocks.{n}.[param_generator|norm]",
    "nerf_final_layer.[norm|linear]",
    "nerf_final_layer_conv.[norm|conv]",
)
CHROMA_NORMS = (
    "distilled_guidance_layer.norms.{n}",
    "nerf_blocks.{n}.norm",
    "[nerf_final_layer|nerf_final_layer_conv].norm",
)
FLUX2_ENDS = (
    "[time_in|guidance_in].[in_layer|out_layer]",
    "final_layer.adaLN_modulation.1",
    "[double_stream_modulation_img|double_stream_modulation_txt|single_stream_modulation].lin",
)

# Under these every supported ComfyUI maps diffusers' paths; 0.33 maps them bare as well.
PREFIXES = ("transformer.", "lycoris_", "lora_transformer_")

IN_DOUBLE = [
    *rows(DOUBLE + "img_attn.qkv", (("to_q", 1), ("to_k", 1), ("to_v", 1)), THEIR_DOUBLE + "attn."),
    *rows(
        DOUBLE + "txt_attn.qkv",
        (("add_q_proj", 1), ("add_k_proj", 1), ("add_v_proj", 1)),
        THEIR_DOUBLE + "attn.",
    ),
    *renamed(
        (
            ("attn.to_out.0", "img_attn.proj"),
            ("attn.to_add_out", "txt_attn.proj"),
            ("attn.norm_q", "img_attn.norm.query_norm"),
            ("attn.norm_k", "img_attn.norm.key_norm"),
            ("attn.norm_added_q", "txt_attn.norm.query_norm"),
            ("attn.norm_added_k", "txt_attn.norm.key_norm"),
        ),
        THEIR_DOUBLE,
        DOUBLE,
    ),
]
MLP = renamed(
    (
        ("ff.net.0.proj", "img_mlp.0"),
        ("ff.net.2", "img_mlp.2"),
        ("ff_context.net.0.proj", "txt_mlp.0"),
        ("ff_context.net.2", "txt_mlp.2"),
    ),
    THEIR_DOUBLE,
    DOUBLE,
)
MODULATIONS = [
    Rule(THEIR_DOUBLE + "norm1.linear", DOUBLE + "img_mod.lin"),
    Rule(THEIR_DOUBLE + "norm1_context.linear", DOUBLE + "txt_mod.lin"),
    Rule(THEIR_SINGLE + "norm.linear", SINGLE + "modulation.lin"),
]
SINGLE_NORMS = renamed((("attn.norm_q", "norm.query_norm"), ("attn.norm_k", "norm.key_norm")), THEIR_SINGLE, SINGLE)
AT_ENDS = [
    *renamed((("x_embedder", "img_in"), ("context_embedder", "txt_in"), ("proj_out", "final_layer.linear"))),
    swapped("norm_out.linear", "final_layer.adaLN_modulation.1"),
]
FLUX_EMBEDDERS = renamed(
    (
        ("timestep_embedder.linear_1", "time_in.in_layer"),
        ("timestep_embedder.linear_2", "time_in.out_layer"),
        ("text_embedder.linear_1", "vector_in.in_layer"),
        ("text_embedder.linear_2", "vector_in.out_layer"),
        ("guidance_embedder.linear_1", "guidance_in.in_layer"),
        ("guidance_embedder.linear_2", "guidance_in.out_layer"),
    ),
    "time_text_embed.",
)
LINEAR1 = (("attn.to_q", 1), ("attn.to_k", 1), ("attn.to_v", 1), ("proj_mlp", 4))


def uso(mlp: int) -> list[Rule]:
    """USO's LoRAs, as ComfyUI converts them: q, k and v of linear1 in one piece."""
    parts = rows(SINGLE + "linear1", (("linear1_qkv", 3), ("", mlp)), SINGLE, diffusers=False)
    return under(("diffusion_model.",), parts[:1])


def old_norms(*norms: str) -> list[Rule]:
    """The norms' parameter as ComfyUI called it up to 0.3.75: `query_norm.scale`. 0.33 calls it a weight."""
    return [Rule(f"{path}.scale", path, diffusers=False) for path in expand(*(norms or NORMS))]


def unusual(rules: Iterable[Rule]) -> list[Rule]:
    """Rules that ComfyUI has for one of the models because it shares its table with the other."""
    return [replace(rule, diffusers=False, usual=False) for rule in rules]


IN_FLUX1 = [
    *MLP,
    *MODULATIONS,
    *FLUX_EMBEDDERS,
    Rule(THEIR_SINGLE + "proj_out", SINGLE + "linear2"),
]
# Of Flux 2, and not in the maps of 0.3.75 yet. 0.33 has those of the blocks, for Flux 1 too.
IN_FLUX2 = [
    *renamed(
        (
            ("ff.linear_in", "img_mlp.0"),
            ("ff.linear_out", "img_mlp.2"),
            ("ff_context.linear_in", "txt_mlp.0"),
            ("ff_context.linear_out", "txt_mlp.2"),
        ),
        THEIR_DOUBLE,
        DOUBLE,
    ),
    Rule(THEIR_SINGLE + "attn.to_qkv_mlp_proj", SINGLE + "linear1"),
    Rule(THEIR_SINGLE + "attn.to_out", SINGLE + "linear2"),
]
FLUX2_EMBEDDERS = [
    *renamed(
        (
            ("timestep_embedder.linear_1", "time_in.in_layer"),
            ("timestep_embedder.linear_2", "time_in.out_layer"),
            ("guidance_embedder.linear_1", "guidance_in.in_layer"),
            ("guidance_embedder.linear_2", "guidance_in.out_layer"),
        ),
        "time_guidance_embed.",
    ),
    *renamed(
        (f"{name}.linear", f"{name}.lin")
        for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
    ),
]

FLUX_RULES = [
    *under(PREFIXES, [*IN_DOUBLE, *SINGLE_NORMS, *AT_ENDS, *IN_FLUX1]),
    *under(PREFIXES, rows(SINGLE + "linear1", LINEAR1, THEIR_SINGLE)),
    *unusual(IN_FLUX2),
    *uso(4),
    *old_norms(),
]
FLUX2_RULES = [
    *under(PREFIXES, [*IN_DOUBLE, *SINGLE_NORMS, *AT_ENDS]),
    *IN_FLUX2,
    *FLUX2_EMBEDDERS,
    *under(PREFIXES, unusual(IN_FLUX1)),
    # ComfyUI gives proj_mlp four of the widths, as in Flux 1; the last two have no name
    *under(PREFIXES, unusual(rows(SINGLE + "linear1", (*LINEAR1, ("", 2)), THEIR_SINGLE)[:-1])),
    *uso(6),
    *old_norms(),
]
CHROMA_RULES = [
    *FLUX_RULES,
    # diffusers' own names for what ComfyUI maps under its own path alone
    *renamed(
        (
            ("in_proj", "in_proj"),
            ("out_proj", "out_proj"),
            ("layers.{n}.linear_1", "layers.{n}.in_layer"),
            ("layers.{n}.linear_2", "layers.{n}.out_layer"),
            ("norms.{n}", "norms.{n}"),
        ),
        "distilled_guidance_layer.",
        "distilled_guidance_layer.",
    ),
    *old_norms(*CHROMA_NORMS),
]


def shapes(width: int, mlp: int, gated: bool) -> dict[str, tuple[int, int]]:
    """``mlp``: how many widths the MLP works in; ``gated``: its first layer has twice as many rows."""
    enters = 2 * mlp if gated else mlp
    return {
        **{path: (3 * width, width) for path in expand(DOUBLE + "[img_attn|txt_attn].qkv")},
        **{path: (width, width) for path in expand(DOUBLE + "[img_attn|txt_attn].proj")},
        **{path: (enters * width, width) for path in expand(DOUBLE + "[img_mlp|txt_mlp].0")},
        **{path: (width, mlp * width) for path in expand(DOUBLE + "[img_mlp|txt_mlp].2")},
        **{path: (6 * width, width) for path in expand(DOUBLE + "[img_mod|txt_mod].lin")},
        SINGLE + "linear1": ((3 + enters) * width, width),
        SINGLE + "linear2": (width, (1 + mlp) * width),
        SINGLE + "modulation.lin": (3 * width, width),
    }


# diffusion-pipe's spelling of HunyuanVideo, which is Flux's once it is flat
HUNYUAN_DOTS = (".img_attn_qkv", ".img_attn_proj", ".txt_attn_qkv", ".txt_attn_proj")

FLUX = Architecture(
    name="Flux",
    kin="Flux",
    size=3072,
    weights=(*BLOCKS, *MODULATION, *ENDS, *FLUX_ENDS),
    rules=tuple(FLUX_RULES),
    encoders=(clip_l(), t5("te2", ("lora_te3_", "lora_te2_"), "text_encoder_2.", also=("te3",))),
    blocks={"double_blocks": 19, "single_blocks": 38},
    shapes=shapes(3072, 4, gated=False),
    unsure=frozenset(expand(*NORMS)),
    foreign=HUNYUAN_DOTS,
)
CHROMA = Architecture(
    name="Chroma",
    kin="Flux",
    size=3072,
    weights=(*BLOCKS, *ENDS, *CHROMA_ENDS),
    rules=tuple(CHROMA_RULES),
    encoders=(t5("te1", ("lora_te1_",), "text_encoder."),),
    blocks={"double_blocks": 19, "single_blocks": 38},
    shapes=shapes(3072, 4, gated=False),
    unsure=frozenset(expand(*NORMS, *CHROMA_NORMS)),
    foreign=HUNYUAN_DOTS,
)


def flux2(name: str, width: int, double: int, single: int, encoder: str) -> Architecture:
    return Architecture(
        name=name,
        kin="Flux 2",
        size=width,
        weights=(*BLOCKS, *ENDS, *FLUX2_ENDS),
        rules=tuple(FLUX2_RULES),
        encoders=(language_model(encoder),),
        blocks={"double_blocks": double, "single_blocks": single},
        shapes=shapes(width, 3, gated=True),
        unsure=frozenset(expand(*NORMS)),
        foreign=HUNYUAN_DOTS,
        yields_to=("Flux",),
    )


FLUX2 = flux2("Flux 2", 6144, 8, 48, "mistral3_24b")
KLEIN_4B = flux2("Flux 2 Klein 4B", 3072, 5, 20, "qwen3_4b")
KLEIN_9B = flux2("Flux 2 Klein 9B", 4096, 8, 24, "qwen3_8b")
