"""SD 3 and 3.5: joint blocks with fused q, k and v, which diffusers splits (mmdit_to_diffusers, comfy/utils.py).

Medium (3 and 3.5) has 24 blocks of width 1536, 3.5 Large 38 of width 2432. The last block has no context of its own to
modulate: there diffusers keeps scale and shift in the other order, as in the final layer.
"""

from __future__ import annotations

from ..model import GENERIC, Architecture, renamed, rows, swapped, under
from ..patterns import expand
from .encoders import CLIP_G, clip_l, t5

BLOCK, THEIRS = "joint_blocks.{b}.", "transformer_blocks.{b}."
WEIGHTS = (
    BLOCK + "[x_block|context_block].attn.[qkv|proj|ln_q|ln_k]",
    BLOCK + "x_block.attn2.[qkv|proj|ln_q|ln_k]",
    BLOCK + "[x_block|context_block].mlp.[fc1|fc2]",
    BLOCK + "[x_block|context_block].adaLN_modulation.1",
    "x_embedder.proj",
    "context_embedder",
    "[t_embedder|y_embedder].mlp.[0|2]",
    "final_layer.linear",
    "final_layer.adaLN_modulation.1",
)
RULES = [
    *rows(BLOCK + "x_block.attn.qkv", (("to_q", 1), ("to_k", 1), ("to_v", 1)), THEIRS + "attn."),
    *rows(BLOCK + "x_block.attn2.qkv", (("to_q", 1), ("to_k", 1), ("to_v", 1)), THEIRS + "attn2."),
    *rows(
        BLOCK + "context_block.attn.qkv",
        (("add_q_proj", 1), ("add_k_proj", 1), ("add_v_proj", 1)),
        THEIRS + "attn.",
    ),
    *renamed(
        (
            ("attn.to_out.0", "x_block.attn.proj"),
            ("attn2.to_out.0", "x_block.attn2.proj"),
            ("attn.to_add_out", "context_block.attn.proj"),
            ("attn.norm_q", "x_block.attn.ln_q"),
            ("attn.norm_k", "x_block.attn.ln_k"),
            ("attn2.norm_q", "x_block.attn2.ln_q"),
            ("attn2.norm_k", "x_block.attn2.ln_k"),
            ("attn.norm_added_q", "context_block.attn.ln_q"),
            ("attn.norm_added_k", "context_block.attn.ln_k"),
            ("norm1.linear", "x_block.adaLN_modulation.1"),
            ("norm1_context.linear", "context_block.adaLN_modulation.1"),
            ("ff.net.0.proj", "x_block.mlp.fc1"),
            ("ff.net.2", "x_block.mlp.fc2"),
            ("ff_context.net.0.proj", "context_block.mlp.fc1"),
            ("ff_context.net.2", "context_block.mlp.fc2"),
        ),
        THEIRS,
        BLOCK,
    ),
    *renamed(
        (
            ("pos_embed.proj", "x_embedder.proj"),
            ("context_embedder", "context_embedder"),
            ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0"),
            ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2"),
            ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0"),
            ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2"),
            ("proj_out", "final_layer.linear"),
        )
    ),
    swapped("norm_out.linear", "final_layer.adaLN_modulation.1"),
]
PREFIXES = ("transformer.", "base_model.model.", "lora_transformer_", "lycoris_")


def sd3(name: str, depth: int, width: int) -> Architecture:
    last = f"joint_blocks.{depth - 1}.context_block.adaLN_modulation.1"
    rules = [*RULES, swapped(f"transformer_blocks.{depth - 1}.norm1_context.linear", last)]
    shapes: dict[str, tuple[int, int]] = {
        **{path: (3 * width, width) for path in expand(BLOCK + "[x_block|context_block].attn.qkv")},
        **{path: (width, width) for path in expand(BLOCK + "[x_block|context_block].attn.proj")},
        **{path: (4 * width, width) for path in expand(BLOCK + "[x_block|context_block].mlp.fc1")},
        **{path: (width, 4 * width) for path in expand(BLOCK + "[x_block|context_block].mlp.fc2")},
        BLOCK + "x_block.attn2.qkv": (3 * width, width),
        BLOCK + "context_block.adaLN_modulation.1": (6 * width, width),
        last: (2 * width, width),
    }
    return Architecture(
        name=name,
        kin="SD 3",
        size=width,
        weights=(*WEIGHTS, last),
        rules=tuple(under(PREFIXES, rules)),
        encoders=(clip_l(), CLIP_G, t5("te3", ("lora_te3_",), "text_encoder_3.")),
        blocks={"joint_blocks": depth},
        shapes=shapes,
        prefixes=GENERIC,
    )


SD3 = sd3("SD 3", 24, 1536)
SD35_LARGE = sd3("SD 3.5 Large", 38, 2432)
