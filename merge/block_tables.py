"""Which block of its model a module lies in: a table for each architecture, from path to block.

The paths are those of keys.canonical (underscores, no prefix), each to be read as "begins with". The blocks
have the names that block weights (lbw) are told in: IN, MID and OUT count a U-Net's blocks as the original
model does (input_blocks, middle_block, output_blocks), DOUBLE and SINGLE those of Flux. The pairs of
diffusers path and original path are those of ComfyUI's unet_to_diffusers (comfy/utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BASE = "BASE"  # the text encoders and whatever lies in no block

# Block, path in diffusers, path in the original model. First the attentions, which nearly every LoRA has
# and which the short layouts (17, 12) are made of; then everything else that lies in a block.
SD_ATTENTIONS = (
    ("IN01", "down_blocks_0_attentions_0_", "input_blocks_1_1_"),
    ("IN02", "down_blocks_0_attentions_1_", "input_blocks_2_1_"),
    ("IN04", "down_blocks_1_attentions_0_", "input_blocks_4_1_"),
    ("IN05", "down_blocks_1_attentions_1_", "input_blocks_5_1_"),
    ("IN07", "down_blocks_2_attentions_0_", "input_blocks_7_1_"),
    ("IN08", "down_blocks_2_attentions_1_", "input_blocks_8_1_"),
    ("MID", "mid_block_attentions_0_", "middle_block_1_"),
    ("OUT03", "up_blocks_1_attentions_0_", "output_blocks_3_1_"),
    ("OUT04", "up_blocks_1_attentions_1_", "output_blocks_4_1_"),
    ("OUT05", "up_blocks_1_attentions_2_", "output_blocks_5_1_"),
    ("OUT06", "up_blocks_2_attentions_0_", "output_blocks_6_1_"),
    ("OUT07", "up_blocks_2_attentions_1_", "output_blocks_7_1_"),
    ("OUT08", "up_blocks_2_attentions_2_", "output_blocks_8_1_"),
    ("OUT09", "up_blocks_3_attentions_0_", "output_blocks_9_1_"),
    ("OUT10", "up_blocks_3_attentions_1_", "output_blocks_10_1_"),
    ("OUT11", "up_blocks_3_attentions_2_", "output_blocks_11_1_"),
)
SD_OTHERS = (
    ("IN00", "conv_in", "input_blocks_0_0"),
    ("IN01", "down_blocks_0_resnets_0_", "input_blocks_1_0_"),
    ("IN02", "down_blocks_0_resnets_1_", "input_blocks_2_0_"),
    ("IN03", "down_blocks_0_downsamplers_0_", "input_blocks_3_0_"),
    ("IN04", "down_blocks_1_resnets_0_", "input_blocks_4_0_"),
    ("IN05", "down_blocks_1_resnets_1_", "input_blocks_5_0_"),
    ("IN06", "down_blocks_1_downsamplers_0_", "input_blocks_6_0_"),
    ("IN07", "down_blocks_2_resnets_0_", "input_blocks_7_0_"),
    ("IN08", "down_blocks_2_resnets_1_", "input_blocks_8_0_"),
    ("IN09", "down_blocks_2_downsamplers_0_", "input_blocks_9_0_"),
    ("IN10", "down_blocks_3_resnets_0_", "input_blocks_10_0_"),
    ("IN11", "down_blocks_3_resnets_1_", "input_blocks_11_0_"),
    ("MID", "mid_block_resnets_0_", "middle_block_0_"),
    ("MID", "mid_block_resnets_1_", "middle_block_2_"),
    ("OUT00", "up_blocks_0_resnets_0_", "output_blocks_0_0_"),
    ("OUT01", "up_blocks_0_resnets_1_", "output_blocks_1_0_"),
    ("OUT02", "up_blocks_0_resnets_2_", "output_blocks_2_0_"),
    ("OUT02", "up_blocks_0_upsamplers_0_", "output_blocks_2_1_conv"),
    ("OUT03", "up_blocks_1_resnets_0_", "output_blocks_3_0_"),
    ("OUT04", "up_blocks_1_resnets_1_", "output_blocks_4_0_"),
    ("OUT05", "up_blocks_1_resnets_2_", "output_blocks_5_0_"),
    ("OUT05", "up_blocks_1_upsamplers_0_", "output_blocks_5_2_"),
    ("OUT06", "up_blocks_2_resnets_0_", "output_blocks_6_0_"),
    ("OUT07", "up_blocks_2_resnets_1_", "output_blocks_7_0_"),
    ("OUT08", "up_blocks_2_resnets_2_", "output_blocks_8_0_"),
    ("OUT08", "up_blocks_2_upsamplers_0_", "output_blocks_8_2_"),
    ("OUT09", "up_blocks_3_resnets_0_", "output_blocks_9_0_"),
    ("OUT10", "up_blocks_3_resnets_1_", "output_blocks_10_0_"),
    ("OUT11", "up_blocks_3_resnets_2_", "output_blocks_11_0_"),
)

SDXL_ATTENTIONS = (
    ("IN04", "down_blocks_1_attentions_0_", "input_blocks_4_1_"),
    ("IN05", "down_blocks_1_attentions_1_", "input_blocks_5_1_"),
    ("IN07", "down_blocks_2_attentions_0_", "input_blocks_7_1_"),
    ("IN08", "down_blocks_2_attentions_1_", "input_blocks_8_1_"),
    ("MID", "mid_block_attentions_0_", "middle_block_1_"),
    ("OUT00", "up_blocks_0_attentions_0_", "output_blocks_0_1_"),
    ("OUT01", "up_blocks_0_attentions_1_", "output_blocks_1_1_"),
    ("OUT02", "up_blocks_0_attentions_2_", "output_blocks_2_1_"),
    ("OUT03", "up_blocks_1_attentions_0_", "output_blocks_3_1_"),
    ("OUT04", "up_blocks_1_attentions_1_", "output_blocks_4_1_"),
    ("OUT05", "up_blocks_1_attentions_2_", "output_blocks_5_1_"),
)
SDXL_OTHERS = (
    ("IN00", "conv_in", "input_blocks_0_0"),
    ("IN01", "down_blocks_0_resnets_0_", "input_blocks_1_0_"),
    ("IN02", "down_blocks_0_resnets_1_", "input_blocks_2_0_"),
    ("IN03", "down_blocks_0_downsamplers_0_", "input_blocks_3_0_"),
    ("IN04", "down_blocks_1_resnets_0_", "input_blocks_4_0_"),
    ("IN05", "down_blocks_1_resnets_1_", "input_blocks_5_0_"),
    ("IN06", "down_blocks_1_downsamplers_0_", "input_blocks_6_0_"),
    ("IN07", "down_blocks_2_resnets_0_", "input_blocks_7_0_"),
    ("IN08", "down_blocks_2_resnets_1_", "input_blocks_8_0_"),
    ("MID", "mid_block_resnets_0_", "middle_block_0_"),
    ("MID", "mid_block_resnets_1_", "middle_block_2_"),
    ("OUT00", "up_blocks_0_resnets_0_", "output_blocks_0_0_"),
    ("OUT01", "up_blocks_0_resnets_1_", "output_blocks_1_0_"),
    ("OUT02", "up_blocks_0_resnets_2_", "output_blocks_2_0_"),
    ("OUT02", "up_blocks_0_upsamplers_0_", "output_blocks_2_2_"),
    ("OUT03", "up_blocks_1_resnets_0_", "output_blocks_3_0_"),
    ("OUT04", "up_blocks_1_resnets_1_", "output_blocks_4_0_"),
    ("OUT05", "up_blocks_1_resnets_2_", "output_blocks_5_0_"),
    ("OUT05", "up_blocks_1_upsamplers_0_", "output_blocks_5_2_"),
    ("OUT06", "up_blocks_2_resnets_0_", "output_blocks_6_0_"),
    ("OUT07", "up_blocks_2_resnets_1_", "output_blocks_7_0_"),
    ("OUT08", "up_blocks_2_resnets_2_", "output_blocks_8_0_"),
)

# Flux's blocks are all alike, so its rows are counted off. In diffusers' naming the parts of a double block
# count too: Qwen-Image, LTX and PixArt have transformer_blocks with other parts (img_mlp, attn1, ...) and
# more of them.
FLUX_DOUBLE = tuple(
    (f"DOUBLE{i:02}", path)
    for i in range(19)
    for path in (
        f"double_blocks_{i}_",
        f"transformer_blocks_{i}_attn_",
        f"transformer_blocks_{i}_norm1_",  # with norm1_context
        f"transformer_blocks_{i}_ff_",  # with ff_context
    )
)
FLUX_SINGLE = tuple(
    (f"SINGLE{i:02}", path) for i in range(38) for path in (f"single_blocks_{i}_", f"single_transformer_blocks_{i}_")
)
CHROMA = ((BASE, "distilled_guidance_layer_"),)  # has numbered layers, which are no blocks of Flux

# What begins like this lies in a block of some model.
_BLOCK_PATH = re.compile(r"mid_block_|[a-z_]*(blocks?|layers)_[0-9]+(_|$)")


@dataclass(frozen=True)
class Family:
    """The blocks of one architecture.

    ``attentions`` and ``others`` map the beginning of a path to its block. ``short`` and ``full`` are the
    two layouts that a vector of block weights may have, ``groups`` what the `%` form calls the blocks in
    them. ``foreign`` finds, in a canonical name, what no LoRA of this family has; ``proof``, where there is
    one, finds in a path what every LoRA of it has somewhere.
    """

    name: str
    attentions: Mapping[str, str]
    others: Mapping[str, str]
    short: tuple[str, ...]
    full: tuple[str, ...]
    groups: tuple[str, ...]
    foreign: re.Pattern[str] | None = None
    proof: re.Pattern[str] | None = None

    def block_of(self, path: str) -> str | None:
        """The block that a module's path lies in; None for one that lies in none."""
        return _look_up(self.attentions, path) or _look_up(self.others, path)

    def is_attention(self, path: str) -> bool:
        return _look_up(self.attentions, path) is not None

    def fits(self, canonical_names: Iterable[str]) -> bool:
        """Whether these modules can all be of this architecture. Text encoders alone can be of any."""
        names = list(canonical_names)
        paths = [name.split(":", 1)[1] for name in names if name.startswith("model:")]
        if self.foreign and any(self.foreign.search(name) for name in names):
            return False
        if any(names_a_block(path) and self.block_of(path) is None for path in paths):
            return False
        if self.proof and paths and not any(self.proof.match(path) for path in paths):
            return False
        return not paths or any(self.block_of(path) for path in paths)


def names_a_block(path: str) -> bool:
    """Whether the path begins as those of a model's blocks do, whichever model's."""
    return _BLOCK_PATH.match(path) is not None


def _look_up(rows: Mapping[str, str], path: str) -> str | None:
    return next((block for start, block in rows.items() if path.startswith(start)), None)


def _by_path(*tables: Iterable[tuple[str, ...]]) -> dict[str, str]:
    return {path: block for table in tables for block, *paths in table for path in paths}


FAMILIES = (
    Family(
        name="SD 1.5/2",
        attentions=_by_path(SD_ATTENTIONS),
        others=_by_path(SD_OTHERS),
        short=(BASE, *(block for block, *_ in SD_ATTENTIONS)),
        full=(BASE, *(f"IN{i:02}" for i in range(12)), "MID", *(f"OUT{i:02}" for i in range(12))),
        groups=("in", "mid", "out"),
        # SDXL's second text encoder, its size embedding, and the depth of its attentions
        foreign=re.compile(r"^te2:|^model:(add_embedding|label_emb)_|_transformer_blocks_[1-9]"),
    ),
    Family(
        name="SDXL",
        attentions=_by_path(SDXL_ATTENTIONS),
        others=_by_path(SDXL_OTHERS),
        short=(BASE, *(block for block, *_ in SDXL_ATTENTIONS)),
        full=(BASE, *(f"IN{i:02}" for i in range(9)), "MID", *(f"OUT{i:02}" for i in range(9))),
        groups=("in", "mid", "out"),
        foreign=re.compile(r"^model:output_blocks_2_1_conv"),  # SD's upsampler, where SDXL has an attention
    ),
    Family(
        name="Flux",
        attentions={},  # no layout is that of attentions alone: the % form always counts both kinds of block
        others=_by_path(FLUX_DOUBLE, FLUX_SINGLE, CHROMA),
        short=(BASE, *(f"DOUBLE{i:02}" for i in range(19))),
        full=(BASE, *(f"DOUBLE{i:02}" for i in range(19)), *(f"SINGLE{i:02}" for i in range(38))),
        groups=("double", "single"),
        # A LoRA of nothing but transformer_blocks.N.attn.to_q and the like could be of several other models.
        proof=re.compile(
            r"double_blocks_|single_blocks_|single_transformer_blocks_"
            r"|transformer_blocks_[0-9]+_(attn_add_|attn_to_add_out|norm1_context_|ff_context_)"
        ),
    ),
)
