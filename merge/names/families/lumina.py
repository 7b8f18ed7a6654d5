"""Lumina 2, NewBie and Z-Image: one list of layers after small stacks that refine the noise and the context.

ComfyUI maps diffusers' paths of Z-Image since 0.3.75 (z_image_to_diffusers, comfy/utils.py). Lumina 2 has fewer keys
and values than queries: the rows of q, k and v are 3 : 1 : 1. ComfyUI maps Z-Image's thirds for it too, which are wrong
for k and v. NewBie is a Lumina 2 with 36 layers that also takes in CLIP's text.
"""

from __future__ import annotations

from ..model import Architecture
from .encoders import GEMMA2_2B, GEMMA3_4B, JINA, language_model

# The refiners aren't counted as blocks: they are few. The context refiner has no modulation.
STACKS = ("layers.{b}.", "noise_refiner.{n}.", "context_refiner.{n}.")
MODULATED = STACKS[:2]


def stacks(lines: str, names: tuple[str, ...] = STACKS) -> str:
    return "\n".join(f"{name}\n{lines}" for name in names)


SHAPES = """
    attention.qkv : q,w
    attention.out : w,w
    feed_forward.[w1|w3] : h,w
    feed_forward.w2 : w,h
"""
# Z-Image's names for layers of both; {0} is the relation, which differs between the tables
SAME = """
    attention.out {0} attention.to_out.0
    attention.[q_norm|k_norm] {0} attention.[norm_q|norm_k]
    feed_forward.[w1|w2|w3] {0}
    [attention_norm1|attention_norm2] {0}
"""
Z_ENDS = """
final_layer.[linear|adaLN_modulation.1] {0} all_final_layer.2-1.[linear|adaLN_modulation.1]
x_embedder {0} all_x_embedder.2-1
cap_embedder.[0|1] {0}
t_embedder.mlp.[0|2] {0}
"""
UNMAPPED = "\nmapped under:\n"
NORM_FINAL = "\nnorm_final?\n"  # 0.33 doesn't have it
# Z-Image Omni, which takes in images, and the decoder of the pixel-space Z-Image
PICTURES = f"""
siglip_refiner.{{n}}.
    attention.qkv : q,w = attention.(to_q + to_k + to_v)
{SAME.format("=")}
    [ffn_norm1|ffn_norm2] =
siglip_embedder.[0|1] =
[x_pad_token|cap_pad_token|siglip_pad_token]! =
"""
DECODER = """
dec_net.cond_embed =
dec_net.input_embedder.embedder.0 =
dec_net.res_blocks.{n}.[in_ln|mlp.0|mlp.2|adaLN_modulation.1] =
dec_net.final_layer.linear =
"""
# NewBie's projection of CLIP's text
CLIP_TEXT = """
clip_text_pooled_proj.[0|1] =
time_text_embed.1 =
"""
MAPPED = "\nmapped under: diffusion_model. lycoris_\n"

Z_IMAGE_TABLE = (
    stacks(SHAPES),
    MAPPED,
    stacks("    attention.qkv = attention.(to_q + to_k + to_v)\n" + SAME.format("=")),
    stacks("    [ffn_norm1|ffn_norm2] ="),
    stacks("    adaLN_modulation.0 =", MODULATED),
    Z_ENDS.format("="),
    *(UNMAPPED, PICTURES, DECODER, NORM_FINAL),
)
LUMINA2_TABLE = (
    stacks(SHAPES),
    stacks("""
    attention.qkv = attn.(to_q:3 + to_k + to_v)
    attention.out = attn.to_out.0
    attention.[q_norm|k_norm] = attn.[norm_q|norm_k]
    feed_forward.[w1|w2|w3] = feed_forward.[linear_1|linear_2|linear_3]
    attention_norm2 = norm2
    """),
    MAPPED,
    stacks("    [ffn_norm1|ffn_norm2] ="),
    UNMAPPED,
    stacks("    adaLN_modulation.1 = norm1.linear\n    attention_norm1 = norm1.norm", MODULATED),
    stacks("    attention_norm1 = norm1", STACKS[2:]),
    # Z-Image's names, which ComfyUI maps to the right rows for the queries only
    MAPPED,
    stacks("    attention.qkv < attention.(to_q:3 + _:2)"),
    UNMAPPED,
    stacks("    attention.qkv < attention.(_:3 + to_k + to_v)"),
    MAPPED,
    stacks(SAME.format("<")),
    UNMAPPED,
    """
x_embedder =
cap_embedder.[0|1] = time_caption_embed.caption_embedder.[0|1]
t_embedder.mlp.[0|2] = time_caption_embed.timestep_embedder.[linear_1|linear_2]
final_layer.adaLN_modulation.1 = norm_out.linear_1
final_layer.linear = norm_out.linear_2
""",
    MAPPED,
    Z_ENDS.format("<"),
    NORM_FINAL,
)

LUMINA2 = Architecture(
    name="Lumina 2",
    table="\n".join(LUMINA2_TABLE),
    sizes={"w": 2304, "h": 9216, "q": 3840},
    encoders=(GEMMA2_2B,),
    blocks={"layers": 26},
)
NEWBIE = Architecture(
    name="NewBie",
    table="\n".join((*LUMINA2_TABLE, UNMAPPED, CLIP_TEXT)),
    sizes={"w": 2304, "h": 9216, "q": 3840},
    encoders=(GEMMA3_4B, JINA),
    blocks={"layers": 36},
    defers_to=("Lumina 2",),
)
Z_IMAGE = Architecture(
    name="Z-Image",
    table="\n".join(Z_IMAGE_TABLE),
    sizes={"w": 3840, "h": 10240, "q": 11520},
    encoders=(language_model("qwen3_4b", width=2560),),
    blocks={"layers": 30},
)
