"""The data of a model family: an architecture with its weights, their names, and its text encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .patterns import Table, block_list, expand, flat
from .row_range import ALL_ROWS, RowRange
from .table import Alias, ParsedTable, alias_paths, numberless_paths, own_paths, parse, size_of

# The prefixes under which ComfyUI maps the weights of any model by their own path.
GENERIC = ("diffusion_model.", "lora_unet_")
# The only prefix under which it maps a parameter whose key doesn't end in `.weight`.
PARAMETER_PREFIX = "diffusion_model."
# The prefixes of text encoders: ComfyUI's own, and a second one, without the encoder's name, that 0.33 maps for every
# encoder but CLIP.
GENERIC_ENCODER = "text_encoders."
NAMELESS_ENCODER = "text_encoders.transformer."


@dataclass(frozen=True)
class Target:
    """The weight of ComfyUI's model that a name stands for, and which of its rows.

    ``weight`` is the canonical name: the component (model, te1, te2, te3, te), a colon, and the weight's own path with
    underscores. ``swapped``: under this name the two halves of the rows are stored in the other order, so that its
    first half [0, 1/2) holds the weight's rows [1/2, 1) and its second half the weight's rows [0, 1/2).
    """

    weight: str
    rows: RowRange = ALL_ROWS
    swapped: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the name stands for all rows of the weight, in their order."""
        return self.rows == ALL_ROWS and not self.swapped


# The layers of an encoder's attention that have as many columns as the encoder is wide
ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj", "SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "Wqkv")
# What can precede a language model's paths besides its root: transformers has nested them differently over the years.
ENCODER_ROOTS = ("model.language_model.", "language_model.model.", "language_model.", "model.")
# The root of CLIP's paths, which transformers 5 leaves out
CLIP_ROOT = "text_model."
# The image and audio towers of a multimodal encoder; their attention has widths of its own.
TOWERS = ("visual.", "vision_model.", "audio_model.")


@dataclass(frozen=True, eq=False)
class Encoder:
    """A text encoder of an architecture.

    ``name`` is ComfyUI's name of it and ``weights`` are the paths of its weights, which ComfyUI has under ``prefix``
    (`text_encoders.<name>.transformer.` by default). ``root`` is how the paths of a language model begin; kohya's names
    and canonical names leave it out, other names may.

    ``mapped``: the other prefixes that every supported ComfyUI with this encoder maps, with the weights that it maps
    under them; kohya's comes first. ``nameless``: it maps `text_encoders.transformer.` too. ``diffusers_prefix``: the
    prefix in diffusers' names. ``width``: the columns of its attention's weights. ``aliases``: other paths of weights,
    by path; ComfyUI maps none of them.

    ``also`` are other components that can mean this encoder, for paths that the encoder of that component lacks.
    ``other_names``: ComfyUI's names of the encoder if it is loaded alone or in another size; a module with one of these
    names keeps it.
    """

    component: str
    name: str
    weights: tuple[str, ...]
    mapped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    diffusers_prefix: str = ""
    also: tuple[str, ...] = ()
    root: str = ""
    width: int | tuple[int, ...] | None = None
    nameless: bool = False
    prefix: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    other_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", self.prefix or f"{GENERIC_ENCODER}{self.name}.transformer.")

    @property
    def inner_prefix(self) -> str:
        """The prefix within ComfyUI's text encoder: `clip_l.transformer.`."""
        return self.prefix.removeprefix(GENERIC_ENCODER)

    @property
    def inner_prefixes(self) -> tuple[str, ...]:
        """The prefixes within ComfyUI's text encoder under all names of the encoder, this one's first."""
        return self.inner_prefix, *(f"{name}.transformer." for name in self.other_names)

    @property
    def comfyui_prefix(self) -> str:
        """The prefix to write names in ComfyUI's style with; it must work under all names of the encoder."""
        return NAMELESS_ENCODER if self.other_names and self.nameless else self.prefix

    @cached_property
    def table(self) -> Table[str]:
        """The weights by their path below the root."""
        return Table((path.removeprefix(self.root), path) for path in expand(*self.weights))

    @cached_property
    def mapped_weights(self) -> Mapping[str, frozenset[str]]:
        """``mapped`` with all patterns written out."""
        return {prefix: frozenset(expand(*paths)) for prefix, paths in self.mapped}

    @cached_property
    def _flat_aliases(self) -> Mapping[str, str]:
        return {flat(other): flat(path) for other, path in self.aliases.items()}

    def below_root(self, path: str) -> str:
        """A flat path without the root, in whichever form it has one."""
        if path in self._flat_aliases:
            return self._flat_aliases[path]
        shortened = [*(path.removeprefix(flat(root)) for root in (self.root, *ENCODER_ROOTS)), flat(CLIP_ROOT) + path]
        return next((below for below in shortened if self.table.find(below) is not None), shortened[0])

    def knows(self, path: str) -> bool:
        """Whether a flat path is the path of one of the weights."""
        return self.table.find(self.below_root(path)) is not None

    def fits(self, path: str, shape: Sequence[int]) -> bool:
        """Whether a weight of this shape can be at this flat path below the root, judged by the width."""
        found = self.table.find(path)
        if self.width is None or found is None or found[0].startswith(TOWERS):
            return True
        widths = (self.width,) if isinstance(self.width, int) else self.width
        return not found[0].endswith(ATTENTION_INPUTS) or shape[1] in widths


@dataclass(frozen=True, eq=False)
class Architecture:
    """One kind of model.

    Architectures of one ``family`` resolve every name alike and differ in size; two of their LoRAs can be merged if the
    width of the model, ``sizes["w"]``, is the same. ``table`` holds the weights and their names in the grammar of
    table.py, ``sizes`` the sizes that its shapes mention. ``blocks`` are the lengths of the lists of blocks, by path: a
    name with a higher block number belongs to another model.

    ``prefixes``: those under which every supported ComfyUI maps the weights' own paths. ``kohya``: whether kohya's
    trainer writes the "own" paths or those of "diffusers". ``diffusers_prefix``: the prefix of the model in diffusers'
    names. ``excluded``: substrings of module names that rule this architecture out. ``defers_to``: families that are
    preferred if a LoRA could belong to either.
    """

    name: str
    table: str
    family: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    encoders: tuple[Encoder, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    prefixes: tuple[str, ...] = GENERIC
    kohya: str = "own"
    diffusers_prefix: str = "transformer."
    excluded: tuple[str, ...] = ()
    defers_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)

    @property
    def size(self) -> int:
        return self.sizes["w"]

    @cached_property
    def _parsed(self) -> ParsedTable:
        return parse(self.table)

    @property
    def weights(self) -> tuple[str, ...]:
        return self._parsed.weights

    @property
    def unmapped(self) -> frozenset[str]:
        """The weights whose own path is not mapped by every supported ComfyUI, under any prefix."""
        return self._parsed.unmapped

    @property
    def parameters(self) -> frozenset[str]:
        """The bare parameters: ComfyUI maps them by their full dotted path alone."""
        return self._parsed.parameters

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Rows and columns of the weights that tell architectures apart; 1x1 kernels count as matrices."""
        given = self._parsed.shapes.items()
        return {weight: (size_of(rows, self.sizes), size_of(columns, self.sizes)) for weight, (rows, columns) in given}

    @cached_property
    def own_paths(self) -> Table[str]:
        """The weights by their own path."""
        return own_paths(self.table)

    @cached_property
    def aliases(self) -> Table[Alias]:
        """The aliases by their path."""
        return alias_paths(self.table)

    @cached_property
    def aliases_by_weight(self) -> Mapping[str, tuple[Alias, ...]]:
        found: dict[str, list[Alias]] = {}
        for alias in self._parsed.aliases:
            found.setdefault(alias.weight, []).append(alias)
        return {weight: tuple(aliases) for weight, aliases in found.items()}

    @property
    def numberless_paths(self) -> frozenset[str]:
        return numberless_paths(self.table)

    def has_block(self, weight: str, numbers: Mapping[str, str]) -> bool:
        """Whether the model has the block that these numbers give a weight's pattern."""
        if "b" not in numbers:
            return True
        return int(numbers["b"]) < self.blocks[block_list(weight)]

    def encoder_of(self, component: str) -> Encoder | None:
        return next((e for e in self.encoders if e.component == component or component in e.also), None)
