"""SD 1.5, SD 2, SDXL and other U-Nets, whose layers diffusers numbers by level and the original by block.

kohya's trainer writes SD 1.5 and 2 with diffusers' paths and SDXL with the original ones; others write SDXL with
diffusers' paths too. ComfyUI maps kohya's name of every diffusers path. It maps the dotted path too, except for the
projections of the attention, which it has under their name in old diffusers: `attn1.processor.to_q`,
`attn1.processor.to_out` (unet_to_diffusers in comfy/utils.py, model_lora_keys_unet in comfy/lora.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from ..model import Architecture, Encoder
from .encoders import CLIP_G, CLIP_G_ALONE, CLIP_H, clip_l

FLAT = "\nmapped under: lora_unet_ lycoris_\n"
DOTTED = "\nmapped under: bare unet.\n"
BOTH = "\nmapped under: lora_unet_ lycoris_ bare unet.\n"

OUTSIDE = """
input_blocks.0.0 = conv_in
time_embed.[0|2] = time_embedding.[linear_1|linear_2]
out.[0|2] = [conv_norm_out|conv_out]
"""
# The other conditioning, added to the time's. ComfyUI maps both of diffusers' names in every U-Net.
SIZES = """
label_emb.0.[0|2] = add_embedding.[linear_1|linear_2]
label_emb.0.[0|2] << class_embedding.[linear_1|linear_2]
"""
CLASSES = """
label_emb.0.[0|2] = class_embedding.[linear_1|linear_2]
label_emb.0.[0|2] << add_embedding.[linear_1|linear_2]
"""
RESNET = (
    BOTH
    + """
{own}. = {theirs}.
    in_layers.[0|2] = [norm1|conv1]
    emb_layers.1 = time_emb_proj
    out_layers.[0|3] = [norm2|conv2]
    skip_connection = conv_shortcut
"""
)
# {w}: the width at this level, {c}: that of the text, {s}: that of the self-attention's input, {d}: the number of a
# block within an attention, 0 or {b}
ATTENTION = (
    BOTH
    + """
{own}. = {theirs}.
    [proj_in|proj_out] : {w},{w} =
    norm =
    transformer_blocks.{d}.[norm1|norm2|norm3] =
    transformer_blocks.{d}.ff.net.0.proj : {w8},{w} =
    transformer_blocks.{d}.ff.net.2 : {w},{w4} =
"""
    + FLAT
    + """
{own}.transformer_blocks.{d}. = {theirs}.transformer_blocks.{d}.
    [attn1|attn2].[to_q|to_out.0] : {w},{w} =
    attn1.[to_k|to_v] : {w},{s} =
    attn2.[to_k|to_v] : {w},{c} =
"""
    + DOTTED
    + """
{own}.transformer_blocks.{d}. = {theirs}.transformer_blocks.{d}.
    [attn1|attn2].[to_q|to_k|to_v|to_out.0] < [attn1|attn2].processor.[to_q|to_k|to_v|to_out]
"""
)


def unet(
    name: str,
    *,
    widths: Sequence[int],
    depths: Sequence[int],
    context: int,
    encoders: tuple[Encoder, ...],
    family: str = "",
    resnets: int = 2,
    labels: str = "",
    kohya: str = "own",
    defers_to: tuple[str, ...] = (),
    resnet: str = RESNET,
    attention: str = ATTENTION,
) -> Architecture:
    """A U-Net with ``resnets`` blocks on each level down and one more on each level up.

    ``widths`` and ``depths``: the width of each level and how many blocks its attention has, 0 for no attention; the
    middle has the depth of the last level with attention. ``context``: the width of the text. ``labels``: the table of
    the conditioning besides the time. ``resnet`` and ``attention``: the tables of one resnet and one attention, as
    format strings.
    """
    lines = [*_blocks(widths, depths, resnets, context, resnet, attention), BOTH, OUTSIDE, labels]
    return Architecture(
        name=name,
        family=family,
        table="\n".join(lines),
        blocks=_attention_depths(depths, resnets),
        sizes={"w": context},
        encoders=encoders,
        kohya=kohya,
        diffusers_prefix="unet.",
        defers_to=defers_to,
    )


def _attention_depths(depths: Sequence[int], resnets: int) -> dict[str, int]:
    """How many transformer blocks each attention has, by their path; attentions with one are left out."""
    down = [depth for depth in depths for _ in range(resnets)]
    inputs = {n + 1 + n // resnets: depth for n, depth in enumerate(down)}
    up = [depth for depth in reversed(depths) for _ in range(resnets + 1)]
    found = {f"input_blocks.{n}.1.transformer_blocks": depth for n, depth in inputs.items()}
    found["middle_block.1.transformer_blocks"] = _deepest(depths)
    found |= {f"output_blocks.{n}.1.transformer_blocks": depth for n, depth in enumerate(up)}
    return {path: depth for path, depth in found.items() if depth > 1}


def _deepest(depths: Sequence[int]) -> int:
    """The depth of the attention in the middle."""
    return next(depth for depth in reversed(depths) if depth)


def _blocks(
    widths: Sequence[int], depths: Sequence[int], resnets: int, context: int, resnet: str, attention: str
) -> Iterator[str]:
    """The tables of the levels on the way down, the middle, and the levels on the way up."""
    resnet_at = resnet.format
    attention_at = partial(_attention_at, attention, context)
    last = len(widths) - 1
    block = 0
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for i in range(resnets):
            block += 1
            yield resnet_at(own=f"input_blocks.{block}.0", theirs=f"down_blocks.{level}.resnets.{i}")
            if depth:
                yield attention_at(f"input_blocks.{block}.1", f"down_blocks.{level}.attentions.{i}", width, depth)
        if level < last:
            block += 1
            yield f"{BOTH}input_blocks.{block}.0.op = down_blocks.{level}.downsamplers.0.conv"
    yield resnet_at(own="middle_block.0", theirs="mid_block.resnets.0")
    yield attention_at("middle_block.1", "mid_block.attentions.0", widths[-1], _deepest(depths))
    yield resnet_at(own="middle_block.2", theirs="mid_block.resnets.1")
    block = -1
    for level, (width, depth) in enumerate(zip(reversed(widths), reversed(depths), strict=True)):
        for i in range(resnets + 1):
            block += 1
            yield resnet_at(own=f"output_blocks.{block}.0", theirs=f"up_blocks.{level}.resnets.{i}")
            if depth:
                theirs = f"up_blocks.{level}.attentions.{i}"
                yield attention_at(f"output_blocks.{block}.1", theirs, width, depth)
        if level < last:
            yield f"{BOTH}output_blocks.{block}.{2 if depth else 1}.conv = up_blocks.{level}.upsamplers.0.conv"


def _attention_at(table: str, context: int, own: str, theirs: str, width: int, depth: int) -> str:
    place = "0" if depth == 1 else "{b}"
    return table.format(own=own, theirs=theirs, w=width, w4=4 * width, w8=8 * width, s=width, c=context, d=place)


SD15 = unet(
    "SD 1.5",
    family="SD 1.5/2",
    widths=(320, 640, 1280, 1280),
    depths=(1, 1, 1, 0),
    context=768,
    kohya="diffusers",
    encoders=(clip_l("lora_te_"),),
)
SD2 = unet(
    "SD 2",
    family="SD 1.5/2",
    widths=(320, 640, 1280, 1280),
    depths=(1, 1, 1, 0),
    context=1024,
    kohya="diffusers",
    labels=CLASSES,
    encoders=(CLIP_H,),
)
# The self-attention takes in the text, too.
SD_UPSCALER = unet(
    "SD x4 upscaler",
    widths=(256, 512, 512, 1024),
    depths=(0, 1, 1, 1),
    context=1024,
    kohya="diffusers",
    labels="mapped under:\nlabel_emb < class_embedding",
    attention=ATTENTION.replace("{s}", "{c}"),
    encoders=(CLIP_H,),
    defers_to=("SD 1.5/2", "SDXL"),
)
# Also SSD-1B and Segmind Vega, which are SDXL with blocks removed: the names of the others are unchanged.
SDXL = unet("SDXL", widths=(320, 640, 1280), depths=(0, 2, 10), context=2048, labels=SIZES, encoders=(clip_l(), CLIP_G))
SDXL_REFINER = unet(
    "SDXL Refiner",
    widths=(384, 768, 1536, 1536),
    depths=(0, 4, 4, 0),
    context=1280,
    labels=SIZES,
    encoders=(CLIP_G_ALONE,),
    defers_to=("SD 1.5/2", "SDXL"),
)


def koala(name: str, depth: int) -> Architecture:
    return unet(
        name,
        family="KOALA",
        widths=(320, 640, 1280),
        depths=(0, 2, depth),
        context=2048,
        resnets=1,
        labels=SIZES,
        encoders=(clip_l(), CLIP_G),
        defers_to=("SDXL",),
    )


KOALA = koala("KOALA", 6)
KOALA_700M = koala("KOALA 700M", 5)
