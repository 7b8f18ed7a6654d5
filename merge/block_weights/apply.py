"""Block weights (lbw): one for each block of the model, in the notation of Inspire Pack's LoRA Block Weight.

Three forms:

- a vector, `1,0.5,0,...`: the base (text encoders and whatever lies in no block), then the blocks in order.
  17 or 26 weights for SD 1.5 and 2, 12 or 20 for SDXL, 20 or 58 for Flux and Chroma. The shorter layouts hold the
  blocks that carry attention (Flux and its relatives: the double blocks); what lies in a block that they leave out
  takes the base weight. Where the blocks stand in one row there is one length, a weight for the base and one for
  each: 25 for SD 3 (3.5 Large: 39), 41 for Wan 14B (1.3B and 5B: 31), 61 for Qwen-Image, 31 for Z-Image.
- the name of a preset, or a preset as Inspire writes it into its box, `NAME:1,0.5,...`: what is behind the
  colon counts.
- `%default=1,in1-3=0.5,mid=1,out=0`: keys default and base; in, mid and out on a U-Net; double and single on Flux and
  its relatives; block where the blocks stand in one row, `block1-10=0.5`. Later items override earlier ones; default
  is 1, and base is default, where not given. Numbers count from 1. On a U-Net LoRA of attentions alone they count the
  short layout (SD 1.5: in1 is IN01, in3 is IN04), on one that holds a resnet, a sampler or conv_in the full one (in1 is
  IN00); elsewhere all blocks of the model, on Flux its 19 double and its 38 single ones. Inspire counts the blocks that
  a file happens to hold, which is the same where it holds them all; here a block keeps its number where others are
  missing, and the middle of a U-Net is one block.

Which blocks there are follows from the architecture that the LoRA is recognised to be of, whatever spelling its names
have. What could be of several is read as each of them, and taken if all come to the same.

Inspire's R, U, A and B and several values in a block are refused: they stand for random numbers, for
widgets of its node, and for single modules by their order in the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..adapters.base import Lora, with_block_weight
from ..errors import LoraError
from ..names import Architecture, candidates, likely, resolve
from ..names.prefixes import canonical
from .layouts import BASE, FAMILIES, Family, names_a_block
from .notation import BadNotation, PercentForm, Unsupported, is_value, parse, quoted

SHIPPED_PRESETS = Path(__file__).parents[2] / "block_presets.txt"
# What the user's own presets are called. In the pack's folder they go when the pack is installed anew: ComfyUI's nodes
# look into its user folder too.
USER_PRESETS_NAME = "block_presets.user.txt"
PACK_USER_PRESETS = SHIPPED_PRESETS.with_name(USER_PRESETS_NAME)

# Presets by name.
Presets = Mapping[str, str]


def with_block_weights(lora: Lora, spec: str, presets: Presets | Callable[[], Presets] | None = None) -> Lora:
    """The LoRA with its modules' block weights multiplied by what ``spec`` says, and without those at 0.

    ``presets`` are the names that ``spec`` may use, or what reads them when ``spec`` uses one; None reads the files in
    the pack's folder.
    """
    spec = spec.strip()
    if not spec:
        return lora
    try:
        meant = _expand(spec, presets)
        weights = _weights_by_module(lora, parse(meant))
    except BadNotation as problem:
        raise LoraError(f"Block weights {quoted(spec)} for {lora.name}: {problem}") from None
    modules = {
        name: with_block_weight(module, module.block_weight * weights[name])
        for name, module in lora.modules.items()
        if weights[name] != 0
    }
    given = lora.source.get("block_weights", ())
    assert isinstance(given, list | tuple)
    return replace(lora, modules=modules, source={**lora.source, "block_weights": [*given, meant]})


def preset_files(*more: Path) -> tuple[Path, ...]:
    """The pack's own presets, then the user's in the pack's folder and in ``more``, where there are any."""
    return (SHIPPED_PRESETS, *(path for path in (PACK_USER_PRESETS, *more) if path.exists()))


def read_presets(*paths: Path) -> dict[str, str]:
    """The presets of these files by name; a later line or file overrides an earlier one.

    Without paths: those in the pack's folder. Lines of Inspire's preset file are
    taken as they are, also those that ``with_block_weights`` refuses.
    """
    presets: dict[str, str] = {}
    for path in paths or preset_files():
        for number, line in enumerate(_read_lines(path), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                try:
                    name, value = _parse_preset(line)
                except BadNotation as problem:
                    raise LoraError(f"{path.name}, line {number}: {problem}") from None
                presets[name] = value
    return presets


def _read_lines(path: Path) -> list[str]:
    try:
        # not splitlines(), which also splits where no editor counts a line
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise LoraError(f"The block presets {path.name} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise LoraError(f"The block presets {path.name} aren't UTF-8 text. Save the file as UTF-8.") from None


def _parse_preset(line: str) -> tuple[str, str]:
    name, colon, value = (part.strip() for part in line.partition(":"))
    if not colon or not name or not value:
        raise BadNotation("this is no preset. Write NAME:1,0.5,... or NAME:%default=1,...")
    if "," in name or name.startswith("%"):
        raise BadNotation(f"{quoted(name)} looks like weights. Write a name before the colon.")
    try:
        parse(value)
    except Unsupported:
        pass  # refused when it is used: the other presets of the file are good
    return name, value


def _expand(spec: str, presets: Presets | Callable[[], Presets] | None) -> str:
    """The vector or the `%` form that ``spec`` means."""
    if spec.startswith("%"):
        return spec
    text = spec.rsplit(":", 1)[-1].strip()
    if not text:
        raise BadNotation("nothing follows the colon. Write the weights behind it, or the preset's name alone.")
    if text.startswith("%") or "," in text:
        return text
    if not isinstance(presets, Mapping):
        presets = (presets or read_presets)()
    if text in presets:
        return presets[text].strip()
    if all(is_value(value) for value in text.split()):
        return text
    raise BadNotation(f"there is no preset {quoted(text)}. {_suggestion(text, presets)}")


def _suggestion(name: str, presets: Mapping[str, str]) -> str:
    by_folded_name = {preset.casefold(): preset for preset in presets}
    near = difflib.get_close_matches(name.casefold()[:60], by_folded_name)
    if near:
        return f"Did you mean {' or '.join(by_folded_name[match] for match in near)}?"
    return f"The presets are {', '.join(presets)}." if presets else "There are no presets."


def _weights_by_module(lora: Lora, spec: PercentForm | tuple[float, ...]) -> dict[str, float]:
    readings = _readings(lora)
    if isinstance(spec, tuple):
        found = [
            _assign(reading, dict(zip(layout, spec, strict=True)))
            for reading in readings
            for layout in dict.fromkeys((reading.family.short, reading.family.full))
            if len(layout) == len(spec)
        ]
        if not found:
            raise BadNotation(_wrong_length(len(spec), readings) if readings else _unknown(lora))
    elif readings:
        found = _count_in_each(spec, readings)
    else:
        found = [dict.fromkeys(lora.modules, _outside_blocks(spec, lora))]
    if any(weights != found[0] for weights in found):
        which = " or ".join(reading.family.name for reading in readings)
        raise BadNotation(f"{which} count these blocks differently, and the LoRA may be of either. Write a vector.")
    return found[0]


@dataclass(frozen=True)
class Reading:
    """A LoRA taken to be of a family: its modules' paths in the model, None for a text encoder's."""

    family: Family
    paths: Mapping[str, str | None]


def _readings(lora: Lora) -> list[Reading]:
    shapes = {adapter.name: adapter.weight_shape for adapter in lora.modules.values()}
    possible = likely(candidates(shapes))
    readings = []
    for family in FAMILIES:
        architecture = next((a for a in possible if a in family.architectures), None)
        if architecture is not None:
            paths = {key: _path(adapter.name, architecture) for key, adapter in lora.modules.items()}
            readings.append(Reading(family, paths))
    return readings


def _path(name: str, architecture: Architecture) -> str | None:
    part, path = resolve(name, architecture).weight.split(":", 1)
    return path if part == "model" else None


def _assign(reading: Reading, weights: Mapping[str, float]) -> dict[str, float]:
    """The weight of each module, from those of the blocks in a layout."""
    blocks = {key: path and reading.family.block_of(path) for key, path in reading.paths.items()}
    return {key: weights.get(block or BASE, weights[BASE]) for key, block in blocks.items()}


def _count_in_each(spec: PercentForm, readings: list[Reading]) -> list[dict[str, float]]:
    """The modules' weights, for each of the families that have the blocks which ``spec`` names."""
    found: list[dict[str, float]] = []
    problems: list[BadNotation] = []
    for reading in readings:
        try:
            found.append(_assign(reading, _count(spec, reading.family, _counted_layout(reading))))
        except BadNotation as problem:
            problems.append(problem)
    if not found:
        raise problems[0]
    return found


def _counted_layout(reading: Reading) -> tuple[str, ...]:
    family = reading.family
    in_blocks = [path for path in reading.paths.values() if path and family.block_of(path)]
    attentions_alone = family.attention is not None and all(family.is_attention(path) for path in in_blocks)
    return family.short if attentions_alone else family.full


def _count(spec: PercentForm, family: Family, layout: tuple[str, ...]) -> dict[str, float]:
    """The weight of each block in ``layout``."""
    weights = dict.fromkeys(layout, 1.0 if spec.default is None else spec.default)
    if spec.base is not None:
        weights[BASE] = spec.base
    for blocks in spec.ranges:
        if blocks.group not in family.groups:
            has = f"it is of {family.name}, which has {_listed(family.groups)}"
            raise BadNotation(f"{blocks.text} matches no block of this LoRA: {has}.")
        group = [block for block in layout if block.startswith(blocks.group.upper())]
        last = len(group) if blocks.last is None else blocks.last
        if last > len(group):
            has = _extent(blocks.group, group)
            raise BadNotation(f"{blocks.text} goes past the last block. This LoRA has {has}.")
        weights.update(dict.fromkeys(group[blocks.first - 1 : last], blocks.weight))
    return weights


def _outside_blocks(spec: PercentForm, lora: Lora) -> float:
    """The weight of every module of a LoRA whose blocks aren't known: all of them lie in none."""
    if spec.ranges:
        raise BadNotation(f"{spec.ranges[0].text} matches no block of this LoRA; {_unknown(lora)}")
    if spec.base is None:
        return 1.0 if spec.default is None else spec.default
    if spec.default is not None and spec.default != spec.base:
        raise BadNotation(f"default is for the blocks and differs from base, but {_unknown(lora)}")
    return spec.base


def _unknown(lora: Lora) -> str:
    names = {adapter.name: canonical(adapter.name).split(":", 1) for adapter in lora.modules.values()}
    of_model = [name for name, (part, _) in names.items() if part == "model"] or list(names)
    in_blocks = (name for name in of_model if names_a_block(names[name][1]))
    families = dict.fromkeys(family.architectures[0].family for family in FAMILIES)
    return (
        f"block weights are known for {_listed([*families])} LoRAs, "
        f"and this is none (it has {next(in_blocks, of_model[0])}). "
        "%default=0.5 gives all of it one weight."
    )


def _wrong_length(length: int, readings: list[Reading]) -> str:
    fit = ", ".join(f"{_lengths(reading.family)} for {reading.family.name}" for reading in readings)
    return f"it has {length} weights, and this LoRA takes {fit} (the base counted)."


def _lengths(family: Family) -> str:
    return " or ".join(dict.fromkeys(str(len(layout)) for layout in (family.short, family.full)))


def _extent(group: str, blocks: list[str]) -> str:
    if len(blocks) == 1:
        return f"{group}1 alone ({blocks[0]})"
    return f"{group}1 ({blocks[0]}) to {group}{len(blocks)} ({blocks[-1]})"


def _listed(words: list[str] | tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
