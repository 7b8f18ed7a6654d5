"""Applies block weights (lbw) to a LoRA: each module's weight is that of the block that it lies in.

A vector has the weight of the base first (text encoders and everything outside the blocks), then those of the blocks in
order:

- 17 or 26 weights for SD 1.5 and 2, 12 or 20 for SDXL, 20 or 58 for Flux and Chroma. The shorter vectors have the
  blocks with attention (for Flux and similar models: the double blocks); modules in other blocks get the base weight.
- models with one list of blocks have one length: 25 for SD 3 (3.5 Large: 39), 41 for Wan 14B (1.3B and 5B: 31), 61 for
  Qwen-Image, 31 for Z-Image.

The % form, `%default=1,in1-3=0.5,mid=1,out=0`, has the keys default and base; in, mid and out for a U-Net; double and
single for Flux and similar models; block for models with one list of blocks. Later items override earlier ones. default
is 1 if it isn't given, base is default. Numbers begin with 1:

- in a U-Net LoRA with attention only, they count the blocks of the shorter vector (SD 1.5: in1 is IN01, in3 is IN04);
- in a U-Net LoRA with a resnet, a sampler or conv_in, they count all blocks (in1 is IN00);
- in other models, they count all blocks of the model, in Flux 19 double and 38 single ones.

Inspire counts the blocks that occur in the file, which is the same if all do. Here a block keeps its number if others
are missing, and the middle of a U-Net is one block.

The architecture that the LoRA is recognised as gives the blocks. A LoRA that could be for several is accepted if the
weights are the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..adapters.base import Lora, with_block_weight
from ..errors import LoraError
from ..names import Architecture, candidates, likely, resolve
from ..names.prefixes import canonical
from .layouts import BASE, LAYOUTS, BlockLayout, names_a_block
from .notation import BadNotation, PercentForm, parse, quoted
from .presets import Presets, expand


def with_block_weights(lora: Lora, spec: str, presets: Presets | Callable[[], Presets] | None = None) -> Lora:
    """The LoRA with its modules' block weights multiplied by those in ``spec``, and without modules at weight 0.

    ``presets``: the presets that ``spec`` may name, or a function that reads them if it names one; None: the files in
    the pack's folder. Raises LoraError if ``spec`` can't be parsed or doesn't fit the LoRA.
    """
    spec = spec.strip()
    if not spec:
        return lora
    try:
        expanded = expand(spec, presets)
        weights = _weights_by_module(lora, parse(expanded))
    except BadNotation as problem:
        raise LoraError(f"Block weights {quoted(spec)} for {lora.name}: {problem}") from None
    modules = {
        name: with_block_weight(module, module.block_weight * weights[name])
        for name, module in lora.modules.items()
        if weights[name] != 0
    }
    given = lora.source.get("block_weights", ())
    assert isinstance(given, list | tuple)
    return replace(lora, modules=modules, source={**lora.source, "block_weights": [*given, expanded]})


def fits_blocks(lora: Lora, spec: str) -> bool:
    """Whether ``with_block_weights`` would accept these weights, in vector or % form, for this LoRA."""
    try:
        _weights_by_module(lora, parse(spec.strip()))
    except BadNotation:
        return False
    return True


def require_notation(spec: str, name: str, presets: Presets | Callable[[], Presets] | None = None) -> None:
    """Raise LoraError, naming the LoRA, for block weights that no LoRA could have. Needs no file."""
    try:
        if spec.strip():
            parse(expand(spec.strip(), presets))
    except BadNotation as problem:
        raise LoraError(f"Block weights {quoted(spec)} for {name}: {problem}") from None


@dataclass(frozen=True)
class LayoutFit:
    """A layout that the LoRA can have, with the path of each module in that model; None for text encoders."""

    layout: BlockLayout
    paths: Mapping[str, str | None]

    def weights(self, by_block: Mapping[str, float]) -> dict[str, float]:
        """The weight of each module, given those of the blocks."""
        blocks = {key: path and self.layout.block_of(path) for key, path in self.paths.items()}
        return {key: by_block.get(block or BASE, by_block[BASE]) for key, block in blocks.items()}

    def counted_blocks(self) -> tuple[str, ...]:
        """The base and the blocks that the numbers of the % form count."""
        in_blocks = [path for path in self.paths.values() if path and self.layout.block_of(path)]
        has_short = self.layout.attention is not None
        only_attention = has_short and all(self.layout.is_attention(path) for path in in_blocks)
        return self.layout.short if only_attention else self.layout.full


def _layout_fits(lora: Lora) -> list[LayoutFit]:
    shapes = {adapter.name: adapter.weight_shape for adapter in lora.modules.values()}
    possible = likely(candidates(shapes))
    fits = []
    for layout in LAYOUTS:
        architecture = next((a for a in possible if a in layout.architectures), None)
        if architecture is not None:
            paths = {key: _path(adapter.name, architecture) for key, adapter in lora.modules.items()}
            fits.append(LayoutFit(layout, paths))
    return fits


def _path(name: str, architecture: Architecture) -> str | None:
    component, path = resolve(name, architecture).weight.split(":", 1)
    return path if component == "model" else None


def _weights_by_module(lora: Lora, spec: PercentForm | tuple[float, ...]) -> dict[str, float]:
    fits = _layout_fits(lora)
    found = _by_vector(lora, spec, fits) if isinstance(spec, tuple) else _by_percent_form(lora, spec, fits)
    if any(weights != found[0] for weights in found):
        names = " or ".join(fit.layout.name for fit in fits)
        raise BadNotation(f"the LoRA could be for {names}, which number these blocks differently. Write a vector.")
    return found[0]


def _by_vector(lora: Lora, vector: tuple[float, ...], fits: list[LayoutFit]) -> list[dict[str, float]]:
    """The modules' weights for each layout with a vector of this length."""
    found = [
        fit.weights(dict(zip(blocks, vector, strict=True)))
        for fit in fits
        for blocks in dict.fromkeys((fit.layout.short, fit.layout.full))
        if len(blocks) == len(vector)
    ]
    if not found:
        raise BadNotation(_wrong_length(len(vector), fits) if fits else _unknown(lora))
    return found


def _by_percent_form(lora: Lora, spec: PercentForm, fits: list[LayoutFit]) -> list[dict[str, float]]:
    """The modules' weights for each layout that has the blocks in ``spec``."""
    if not fits:
        return [dict.fromkeys(lora.modules, _outside_blocks(spec, lora))]
    found: list[dict[str, float]] = []
    problems: list[BadNotation] = []
    for fit in fits:
        try:
            found.append(fit.weights(_weights_by_block(spec, fit.layout, fit.counted_blocks())))
        except BadNotation as problem:
            problems.append(problem)
    if not found:
        raise problems[0]
    return found


def _weights_by_block(spec: PercentForm, layout: BlockLayout, counted: tuple[str, ...]) -> dict[str, float]:
    weights = dict.fromkeys(counted, 1.0 if spec.default is None else spec.default)
    if spec.base is not None:
        weights[BASE] = spec.base
    for blocks in spec.ranges:
        if blocks.group not in layout.groups:
            has = f"it is for {layout.name}, which has {_listed(layout.groups)}"
            raise BadNotation(f"{blocks.text} matches no block of this LoRA: {has}.")
        group = [block for block in counted if block.startswith(blocks.group.upper())]
        last = len(group) if blocks.last is None else blocks.last
        if last > len(group):
            has = _extent(blocks.group, group)
            raise BadNotation(f"{blocks.text} goes past the last block. This LoRA has {has}.")
        weights.update(dict.fromkeys(group[blocks.first - 1 : last], blocks.weight))
    return weights


def _outside_blocks(spec: PercentForm, lora: Lora) -> float:
    """The weight of every module of a LoRA with unknown blocks, where none lies in a block."""
    if spec.ranges:
        raise BadNotation(f"{spec.ranges[0].text} matches no block of this LoRA; {_unknown(lora)}")
    if spec.base is None:
        return 1.0 if spec.default is None else spec.default
    if spec.default is not None and spec.default != spec.base:
        raise BadNotation(f"default is for the blocks and differs from base, but {_unknown(lora)}")
    return spec.base


# --- messages ---


def _unknown(lora: Lora) -> str:
    names = {adapter.name: canonical(adapter.name).split(":", 1) for adapter in lora.modules.values()}
    of_model = [name for name, (component, _) in names.items() if component == "model"] or list(names)
    in_blocks = (name for name in of_model if names_a_block(names[name][1]))
    families = dict.fromkeys(layout.architectures[0].family for layout in LAYOUTS)
    return (
        f"block weights are known for {_listed([*families])} LoRAs, "
        f"and this is not one of them (it has {next(in_blocks, of_model[0])}). "
        "%default=0.5 gives all of it one weight."
    )


def _wrong_length(length: int, fits: list[LayoutFit]) -> str:
    fitting = ", ".join(f"{_lengths(fit.layout)} for {fit.layout.name}" for fit in fits)
    return f"it has {length} weights, and this LoRA takes {fitting} (including the base)."


def _lengths(layout: BlockLayout) -> str:
    return " or ".join(dict.fromkeys(str(len(blocks)) for blocks in (layout.short, layout.full)))


def _extent(group: str, blocks: list[str]) -> str:
    if len(blocks) == 1:
        return f"only {group}1 ({blocks[0]})"
    return f"{group}1 ({blocks[0]}) to {group}{len(blocks)} ({blocks[-1]})"


def _listed(words: list[str] | tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
