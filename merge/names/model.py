"""An architecture: one kind of model, with the names of its weights and its text encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from .patterns import Table, expand, flat, list_of_blocks
from .table import WHOLE, ParsedTable, Rule, other_spellings, outlines, own_paths, parse, size_of

# The prefixes under which ComfyUI maps a weight of any model by its own path.
GENERIC = ("diffusion_model.", "lora_unet_")
# The one under which it maps a parameter that is no `.weight`.
PARAMETER_PREFIX = "diffusion_model."
# Before a text encoder's whole key; 0.33 leaves out the encoder's name under the second (unless it is a CLIP).
GENERIC_ENCODER = "text_encoders."
NAMELESS_ENCODER = "text_encoders.transformer."


@dataclass(frozen=True)
class Target:
    """What a name means: rows ``start`` to ``stop`` (as fractions of all its rows) of a weight of ComfyUI's model.

    ``weight`` is canonical: the part of the model (model, te1, te2, te3, te), a colon, and the weight's own path there
    with underscores. ``swapped``: under this name the two halves of the rows stand in the other order, so that its
    first half [0, 1/2) are the weight's rows [1/2, 1) and its second half the weight's rows [0, 1/2).
    """

    weight: str
    start: Fraction = WHOLE[0]
    stop: Fraction = WHOLE[1]
    swapped: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the name means all of the weight's rows, in their order."""
        return (self.start, self.stop) == WHOLE and not self.swapped


# The layers of an encoder's attention that take in its whole width
ATTENTION_INPUTS = ("q_proj", "k_proj", "v_proj", "SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "Wqkv")
# What may stand before a language model's paths besides its root, as transformers has nested them over the years.
ENCODER_ROOTS = ("model.language_model.", "language_model.model.", "language_model.", "model.")
# What CLIP's paths begin with, but not in transformers 5
CLIP_ROOT = "text_model."
# The parts of a multimodal encoder that see or hear; their attention has widths of its own.
TOWERS = ("visual.", "vision_model.", "audio_model.")


@dataclass(frozen=True, eq=False)
class Encoder:
    """A text encoder of an architecture.

    ``name`` is ComfyUI's; its weights are ``prefix`` and their paths there, which ``weights`` holds. The prefix is
    `text_encoders.<name>.transformer.` unless said otherwise. kohya's names leave out ``root``, with which the paths of
    a language model begin, and so do canonical ones; other names may.

    ``mapped`` are the other prefixes that every supported ComfyUI which has the encoder knows, with the weights that it
    knows under them; the first is kohya's. ``nameless``: `text_encoders.transformer.` is one of them. ``also`` are
    further parts that mean this encoder, for paths that the encoder of that part doesn't have. ``width`` is the number
    of columns of its attention's weights. ``aliases`` are other paths of weights, which no ComfyUI maps. ``others`` are
    ComfyUI's names of the encoder where it is loaded alone, or in another size; what is called so keeps the name.
    """

    part: str
    name: str
    weights: tuple[str, ...]
    mapped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    diffusers: str = ""
    also: tuple[str, ...] = ()
    root: str = ""
    width: int | tuple[int, ...] | None = None
    nameless: bool = False
    prefix: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", self.prefix or f"{GENERIC_ENCODER}{self.name}.transformer.")

    @property
    def place(self) -> str:
        """The prefix inside ComfyUI's text encoder."""
        return self.prefix.removeprefix(GENERIC_ENCODER)

    @property
    def generic(self) -> str:
        """The prefix to write a weight of any encoder under, which holds whatever ComfyUI calls this one."""
        return NAMELESS_ENCODER if self.others and self.nameless else self.prefix

    @property
    def places(self) -> tuple[str, ...]:
        """The prefixes inside ComfyUI's text encoder, that of the encoder among others first."""
        return self.place, *(f"{name}.transformer." for name in self.others)

    @cached_property
    def table(self) -> Table[str]:
        """The weights by their path below the root."""
        return Table((path.removeprefix(self.root), path) for path in expand(*self.weights))

    @cached_property
    def kohya(self) -> Mapping[str, frozenset[str]]:
        return {prefix: frozenset(expand(*paths)) for prefix, paths in self.mapped}

    @cached_property
    def _renamed(self) -> Mapping[str, str]:
        return {flat(other): flat(path) for other, path in self.aliases.items()}

    def below_root(self, path: str) -> str:
        """A flat path without the root, whichever it is written with."""
        if path in self._renamed:
            return self._renamed[path]
        known = [*(path.removeprefix(flat(root)) for root in (self.root, *ENCODER_ROOTS)), flat(CLIP_ROOT) + path]
        return next((below for below in known if self.table.find(below) is not None), known[0])

    def knows(self, path: str) -> bool:
        """Whether a flat path is that of one of the weights."""
        return self.table.find(self.below_root(path)) is not None

    def fits(self, path: str, shape: Sequence[int]) -> bool:
        """Whether a weight at this flat path below the root can have this shape, as far as the width says."""
        found = self.table.find(path)
        if self.width is None or found is None or found[0].startswith(TOWERS):
            return True
        widths = (self.width,) if isinstance(self.width, int) else self.width
        return not found[0].endswith(ATTENTION_INPUTS) or shape[1] in widths


@dataclass(frozen=True, eq=False)
class Architecture:
    """One kind of model.

    Architectures of one ``family`` read every name the same and differ in size: two LoRAs can be merged where the size
    ``w`` (the model's width) is the same. ``table`` has the weights and their names, in the form of table.py, with
    ``sizes`` for the shapes in it. ``blocks`` are the lists of blocks by their path, with their lengths: a name beyond
    them belongs to another model.

    ``prefixes`` are those under which every supported ComfyUI maps the weights' own paths. ``kohya`` is how kohya's
    trainer writes: "own" paths or those of "diffusers". ``peft`` is what diffusers calls the model. ``excluded`` are
    parts of raw names that rule this architecture out. ``defers_to``: the families that are assumed where a LoRA could
    belong to either.
    """

    name: str
    table: str
    family: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    encoders: tuple[Encoder, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    prefixes: tuple[str, ...] = GENERIC
    kohya: str = "own"
    peft: str = "transformer."
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
        """The weights without a spelling of their own path that every supported ComfyUI maps."""
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
    def own(self) -> Table[str]:
        return own_paths(self.table)

    @property
    def outlines(self) -> frozenset[str]:
        return outlines(self.table)

    @cached_property
    def aliases(self) -> Table[Rule]:
        return other_spellings(self.table)

    @cached_property
    def spellings(self) -> Mapping[str, tuple[Rule, ...]]:
        """The other spellings of each weight."""
        found: dict[str, list[Rule]] = {}
        for rule in self._parsed.rules:
            found.setdefault(rule.weight, []).append(rule)
        return {weight: tuple(rules) for weight, rules in found.items()}

    def has_block(self, weight: str, numbers: Mapping[str, str]) -> bool:
        """Whether the block that a weight's pattern names with these numbers is one of the model's."""
        if "b" not in numbers:
            return True
        return int(numbers["b"]) < self.blocks[list_of_blocks(weight)]

    def encoder_of(self, part: str) -> Encoder | None:
        return next((e for e in self.encoders if e.part == part or part in e.also), None)
