"""SD 1.5, SD 2 and SDXL: the U-Nets, which diffusers numbers by level and the original by block.

The pairs are those of ComfyUI's unet_to_diffusers (comfy/utils.py). kohya's trainer writes SD 1.5 and 2 with diffusers'
paths and SDXL with the original ones; others write SDXL with diffusers' paths too.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Architecture, Rule, renamed, under
from ..patterns import expand
from .encoders import CLIP_G, CLIP_H, clip_l

# (diffusers, original, width of the attention there)
SD_ATTENTIONS = (
    ("down_blocks.0.attentions.0", "input_blocks.1.1", 320),
    ("down_blocks.0.attentions.1", "input_blocks.2.1", 320),
    ("down_blocks.1.attentions.0", "input_blocks.4.1", 640),
    ("down_blocks.1.attentions.1", "input_blocks.5.1", 640),
    ("down_blocks.2.attentions.0", "input_blocks.7.1", 1280),
    ("down_blocks.2.attentions.1", "input_blocks.8.1", 1280),
    ("mid_block.attentions.0", "middle_block.1", 1280),
    ("up_blocks.1.attentions.0", "output_blocks.3.1", 1280),
    ("up_blocks.1.attentions.1", "output_blocks.4.1", 1280),
    ("up_blocks.1.attentions.2", "output_blocks.5.1", 1280),
    ("up_blocks.2.attentions.0", "output_blocks.6.1", 640),
    ("up_blocks.2.attentions.1", "output_blocks.7.1", 640),
    ("up_blocks.2.attentions.2", "output_blocks.8.1", 640),
    ("up_blocks.3.attentions.0", "output_blocks.9.1", 320),
    ("up_blocks.3.attentions.1", "output_blocks.10.1", 320),
    ("up_blocks.3.attentions.2", "output_blocks.11.1", 320),
)
SD_RESNETS = (
    ("down_blocks.0.resnets.0", "input_blocks.1.0"),
    ("down_blocks.0.resnets.1", "input_blocks.2.0"),
    ("down_blocks.1.resnets.0", "input_blocks.4.0"),
    ("down_blocks.1.resnets.1", "input_blocks.5.0"),
    ("down_blocks.2.resnets.0", "input_blocks.7.0"),
    ("down_blocks.2.resnets.1", "input_blocks.8.0"),
    ("down_blocks.3.resnets.0", "input_blocks.10.0"),
    ("down_blocks.3.resnets.1", "input_blocks.11.0"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.resnets.1", "middle_block.2"),
    ("up_blocks.0.resnets.0", "output_blocks.0.0"),
    ("up_blocks.0.resnets.1", "output_blocks.1.0"),
    ("up_blocks.0.resnets.2", "output_blocks.2.0"),
    ("up_blocks.1.resnets.0", "output_blocks.3.0"),
    ("up_blocks.1.resnets.1", "output_blocks.4.0"),
    ("up_blocks.1.resnets.2", "output_blocks.5.0"),
    ("up_blocks.2.resnets.0", "output_blocks.6.0"),
    ("up_blocks.2.resnets.1", "output_blocks.7.0"),
    ("up_blocks.2.resnets.2", "output_blocks.8.0"),
    ("up_blocks.3.resnets.0", "output_blocks.9.0"),
    ("up_blocks.3.resnets.1", "output_blocks.10.0"),
    ("up_blocks.3.resnets.2", "output_blocks.11.0"),
)
SD_OTHERS = (
    ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
    ("down_blocks.1.downsamplers.0.conv", "input_blocks.6.0.op"),
    ("down_blocks.2.downsamplers.0.conv", "input_blocks.9.0.op"),
    ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv"),
    ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
    ("up_blocks.2.upsamplers.0.conv", "output_blocks.8.2.conv"),
)

SDXL_ATTENTIONS = (
    ("down_blocks.1.attentions.0", "input_blocks.4.1", 640),
    ("down_blocks.1.attentions.1", "input_blocks.5.1", 640),
    ("down_blocks.2.attentions.0", "input_blocks.7.1", 1280),
    ("down_blocks.2.attentions.1", "input_blocks.8.1", 1280),
    ("mid_block.attentions.0", "middle_block.1", 1280),
    ("up_blocks.0.attentions.0", "output_blocks.0.1", 1280),
    ("up_blocks.0.attentions.1", "output_blocks.1.1", 1280),
    ("up_blocks.0.attentions.2", "output_blocks.2.1", 1280),
    ("up_blocks.1.attentions.0", "output_blocks.3.1", 640),
    ("up_blocks.1.attentions.1", "output_blocks.4.1", 640),
    ("up_blocks.1.attentions.2", "output_blocks.5.1", 640),
)
SDXL_RESNETS = tuple(
    (diffusers, own)
    for diffusers, own in SD_RESNETS
    if not diffusers.startswith(("down_blocks.3.", "up_blocks.3."))  # SDXL has three levels, else numbered alike
)
SDXL_OTHERS = (
    ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
    ("down_blocks.1.downsamplers.0.conv", "input_blocks.6.0.op"),
    ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
    ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
)
SDXL_ALSO = (
    ("class_embedding.linear_1", "label_emb.0.0"),
    ("class_embedding.linear_2", "label_emb.0.2"),
)

OUTSIDE = (
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
)
IN_RESNET = (
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
    ("norm1", "in_layers.0"),
    ("norm2", "out_layers.0"),
)
# What an attention is made of has the same names in both; the depth is one where {n} is 0 alone.
AROUND = expand("[proj_in|proj_out|norm]")
IN_BLOCK = expand(
    "[attn1|attn2].[to_q|to_k|to_v|to_out.0]",
    "[norm1|norm2|norm3]",
    "ff.net.0.proj",
    "ff.net.2",
)

# ComfyUI maps kohya's spelling of every diffusers path, and the dotted path of all but the attention's projections,
# which it knows by the name that old diffusers gave them: `attn1.processor.to_q`, `attn1.processor.to_out`.
FLAT = ("lora_unet_", "lycoris_")
DOTTED = ("", "unet.")


def unet(
    name: str,
    kin: str,
    context: int,
    attentions: tuple[tuple[str, str, int], ...],
    resnets: tuple[tuple[str, str], ...],
    others: tuple[tuple[str, str], ...],
    depth: str,
    also: tuple[tuple[str, str], ...] = (),
    **more,
) -> Architecture:
    """``context`` is the text's width, ``depth`` the number or place of a block within an attention."""
    inside = [*AROUND, *(f"transformer_blocks.{depth}.{path}" for path in IN_BLOCK)]
    pairs = [(f"{theirs}.{path}", f"{own}.{path}") for theirs, own, _ in attentions for path in inside]
    pairs += [(f"{theirs}.{a}", f"{own}.{b}") for theirs, own in resnets for a, b in IN_RESNET]
    pairs += [*others, *OUTSIDE]
    rules: list[Rule] = []
    for rule in renamed(pairs):
        if ".to_" in rule.alias:
            processor = rule.alias.replace(".to_", ".processor.to_").removesuffix(".0")
            rules += under(FLAT, [rule])
            rules.append(Rule(processor, rule.weight, prefixes=DOTTED, diffusers=False))
        else:
            rules += under((*FLAT, *DOTTED), [rule])
    rules += under((*FLAT, *DOTTED), renamed(also, diffusers=False))
    shapes: dict[str, tuple[int, int]] = {}
    for _, own, width in attentions:
        shapes |= {f"{own}.{path}": shape for path, shape in _shapes(width, context, depth).items()}
    return Architecture(
        name=name,
        kin=kin,
        size=context,
        weights=tuple(own for _, own in pairs),
        rules=tuple(rules),
        shapes=shapes,
        peft="unet.",
        **more,
    )


def _shapes(width: int, context: int, depth: str) -> Mapping[str, tuple[int, int]]:
    block = f"transformer_blocks.{depth}."
    return {
        "proj_in": (width, width),
        "proj_out": (width, width),
        **{block + path: (width, width) for path in expand("attn1.[to_q|to_k|to_v|to_out.0]", "attn2.[to_q|to_out.0]")},
        **{block + path: (width, context) for path in expand("attn2.[to_k|to_v]")},
        block + "ff.net.0.proj": (8 * width, width),
        block + "ff.net.2": (width, 4 * width),
    }


SD15 = unet(
    "SD 1.5",
    "SD 1.5/2",
    768,
    SD_ATTENTIONS,
    SD_RESNETS,
    SD_OTHERS,
    depth="0",
    kohya="diffusers",
    encoders=(clip_l("lora_te_"),),
)
SD2 = unet(
    "SD 2",
    "SD 1.5/2",
    1024,
    SD_ATTENTIONS,
    SD_RESNETS,
    SD_OTHERS,
    depth="0",
    kohya="diffusers",
    encoders=(CLIP_H,),
)
SDXL = unet(
    "SDXL",
    "SDXL",
    2048,
    SDXL_ATTENTIONS,
    SDXL_RESNETS,
    SDXL_OTHERS,
    depth="{n}",
    also=SDXL_ALSO,
    encoders=(clip_l(), CLIP_G),
)
