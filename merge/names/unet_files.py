"""U-Nets with other numbers of levels or resnets than the known ones, such as SD 1.5 with one resnet a level.

Their weights have the names of the known ones, but diffusers' names, which count by level, mean other weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from .families.unet import SIZES, unet
from .model import Architecture

_DOWNSAMPLER = re.compile(r"input_blocks\.([0-9]{1,4})\.0\.op")
_INPUT = re.compile(r"input_blocks\.([0-9]{1,4})\.")
_BLOCK = "input_blocks.{}.1.transformer_blocks.{}.norm1.weight"


def with_structure(architecture: Architecture, paths: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The architecture of a U-Net with these paths and shapes: the given one, or its own table if it differs."""
    downsamplers = {weight for weight in architecture.weights if _DOWNSAMPLER.fullmatch(weight)}
    found = {path.removesuffix(".weight") for path in paths if _DOWNSAMPLER.fullmatch(path.removesuffix(".weight"))}
    if not downsamplers or found == downsamplers:
        return architecture
    levels = _levels(paths, found)
    resnets = {len(level) for level in levels}
    firsts = [level[0] for level in levels if level]
    widths = [paths.get(f"input_blocks.{block}.0.out_layers.3.weight", (0,))[0] for block in firsts]
    depths = [_depth(paths, block) for block in firsts]
    if len(resnets) != 1 or 0 in resnets or 0 in widths or not any(depths):
        return architecture
    return _unet(architecture, tuple(widths), tuple(depths), resnets.pop())


def _levels(paths: Mapping[str, tuple[int, ...]], downsamplers: set[str]) -> list[list[int]]:
    """The numbers of the input blocks with a resnet, by level."""
    numbers = sorted({int(match[1]) for match in map(_INPUT.match, paths) if match is not None} - {0})
    levels: list[list[int]] = [[]]
    for number in numbers:
        if f"input_blocks.{number}.0.op" in downsamplers:
            levels.append([])
        else:
            levels[-1].append(number)
    return levels


def _depth(paths: Mapping[str, tuple[int, ...]], block: int) -> int:
    depth = 0
    while _BLOCK.format(block, depth) in paths:
        depth += 1
    return depth


@lru_cache(maxsize=8)
def _unet(architecture: Architecture, widths: tuple[int, ...], depths: tuple[int, ...], resnets: int) -> Architecture:
    return unet(
        architecture.name,
        family=architecture.family,
        widths=widths,
        depths=depths,
        context=architecture.size,
        encoders=architecture.encoders,
        resnets=resnets,
        labels=SIZES if "label_emb.0.0" in architecture.weights else "",
        kohya=architecture.kohya,
        defers_to=architecture.defers_to,
    )
