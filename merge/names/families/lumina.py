"""Lumina 2 and Z-Image: one row of layers, and two small stacks that refine the noise and the context before it.

ComfyUI maps diffusers' paths of Z-Image since 0.3.75 (z_image_to_diffusers, comfy/utils.py). Lumina 2 has fewer keys
and values than queries, so that q, k and v are 3 : 1 : 1 of the rows there; ComfyUI maps Z-Image's thirds for it as
well, which fit no Lumina 2.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture, Rule, renamed, rows, under
from ..patterns import expand
from .encoders import language_model

# the refiners are no layers of the main row, and are few: any number will do
STACKS = ("layers.{b}.", "noise_refiner.{n}.", "context_refiner.{n}.")
IN_LAYER = (
    "attention.[qkv|out|q_norm|k_norm]",
    "feed_forward.[w1|w2|w3]",
    "[attention_norm1|attention_norm2|ffn_norm1|ffn_norm2]",
)
ENDS = (
    "x_embedder",
    "cap_embedder.[0|1]",
    "t_embedder.mlp.[0|2]",
    "final_layer.linear",
    "final_layer.adaLN_modulation.1",
    # NewBie, Z-Image Omni
    "clip_text_pooled_proj.[0|1]",
    "time_text_embed.[0|1]",
    "siglip_embedder.[0|1]",
    "norm_final",
)
SAME = expand("feed_forward.[w1|w2|w3]", "[attention_norm1|attention_norm2|ffn_norm1|ffn_norm2]")
ATTENTION = (
    ("attention.to_out.0", "attention.out"),
    ("attention.norm_q", "attention.q_norm"),
    ("attention.norm_k", "attention.k_norm"),
)
Z_IMAGE_ENDS = (
    ("all_final_layer.2-1.linear", "final_layer.linear"),
    ("all_final_layer.2-1.adaLN_modulation.1", "final_layer.adaLN_modulation.1"),
    ("all_x_embedder.2-1", "x_embedder"),
    ("cap_embedder.0", "cap_embedder.0"),
    ("cap_embedder.1", "cap_embedder.1"),
    ("t_embedder.mlp.0", "t_embedder.mlp.0"),
    ("t_embedder.mlp.2", "t_embedder.mlp.2"),
)
LUMINA_LAYER = (
    ("attn.to_out.0", "attention.out"),
    ("attn.norm_q", "attention.q_norm"),
    ("attn.norm_k", "attention.k_norm"),
    ("feed_forward.linear_1", "feed_forward.w1"),
    ("feed_forward.linear_2", "feed_forward.w2"),
    ("feed_forward.linear_3", "feed_forward.w3"),
    ("norm2", "attention_norm2"),
)
FFN_NORMS = (("ffn_norm1", "ffn_norm1"), ("ffn_norm2", "ffn_norm2"))
LUMINA_ENDS = (
    ("x_embedder", "x_embedder"),
    ("time_caption_embed.caption_embedder.0", "cap_embedder.0"),
    ("time_caption_embed.caption_embedder.1", "cap_embedder.1"),
    ("time_caption_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
    ("time_caption_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
    ("norm_out.linear_1", "final_layer.adaLN_modulation.1"),
    ("norm_out.linear_2", "final_layer.linear"),
)
PREFIXES = ("diffusion_model.", "lycoris_")


def modulated(layer: str) -> bool:
    """Whether the layers of a stack have a modulation: the context's don't."""
    return not layer.startswith("context_refiner")


def weights(modulation: str) -> tuple[str, ...]:
    return (
        *(stack + path for stack in STACKS for path in IN_LAYER),
        *(f"{stack}adaLN_modulation.{modulation}" for stack in STACKS if modulated(stack)),
        *ENDS,
    )


def z_image_rules() -> list[Rule]:
    rules: list[Rule] = []
    for stack in STACKS:
        rules += rows(stack + "attention.qkv", (("to_q", 1), ("to_k", 1), ("to_v", 1)), stack + "attention.")
        rules += renamed((*ATTENTION, *((path, path) for path in SAME)), stack, stack)
        if modulated(stack):
            rules.append(Rule(stack + "adaLN_modulation.0", stack + "adaLN_modulation.0"))
    return under(PREFIXES, [*rules, *renamed(Z_IMAGE_ENDS)])


def lumina_rules() -> list[Rule]:
    rules: list[Rule] = []
    for stack in STACKS:
        rules += rows(stack + "attention.qkv", (("to_q", 3), ("to_k", 1), ("to_v", 1)), stack + "attn.")
        rules += renamed(LUMINA_LAYER, stack, stack)
        rules += under(PREFIXES, renamed(FFN_NORMS, stack, stack))
        if modulated(stack):
            rules += renamed((("norm1.linear", "adaLN_modulation.1"), ("norm1.norm", "attention_norm1")), stack, stack)
        else:
            rules.append(Rule(stack + "norm1", stack + "attention_norm1"))
        # Z-Image's spelling, under which ComfyUI finds the right rows for the queries alone
        query, *others = rows(
            stack + "attention.qkv",
            (("to_q", 3), ("to_k", 1), ("to_v", 1)),
            stack + "attention.",
            diffusers=False,
        )
        rules += [*under(PREFIXES, [query]), *others]
        same = [(path, path) for path in SAME if not path.startswith("ffn_norm")]
        rules += under(PREFIXES, renamed((*ATTENTION, *same), stack, stack, diffusers=False))
    rules += renamed(LUMINA_ENDS)
    rules += under(PREFIXES, renamed(Z_IMAGE_ENDS, diffusers=False))
    return rules


def shapes(width: int, hidden: int, qkv: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for stack in STACKS:
        found |= {
            stack + "attention.qkv": (qkv, width),
            stack + "attention.out": (width, width),
            stack + "feed_forward.w1": (hidden, width),
            stack + "feed_forward.w3": (hidden, width),
            stack + "feed_forward.w2": (width, hidden),
        }
    return found


LUMINA2 = Architecture(
    name="Lumina 2",
    kin="Lumina 2",
    size=2304,
    weights=weights("1"),
    rules=tuple(lumina_rules()),
    encoders=(language_model("gemma2_2b"),),
    blocks={"layers": 26},
    shapes=shapes(2304, 9216, 3840),
    prefixes=GENERIC,
    unsure=frozenset({"norm_final"}),
)
Z_IMAGE = Architecture(
    name="Z-Image",
    kin="Z-Image",
    size=3840,
    weights=weights("0"),
    rules=tuple(z_image_rules()),
    encoders=(language_model("qwen3_4b"),),
    blocks={"layers": 30},
    shapes=shapes(3840, 10240, 11520),
    prefixes=GENERIC,
    unsure=frozenset({"norm_final"}),
)
