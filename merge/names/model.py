"""An architecture: one kind of model, with the names of its weights and its text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from .patterns import Table, expand
from .table import WHOLE, ParsedTable, Rule, other_spellings, outlines, own_paths, parse, size_of

# The prefixes under which ComfyUI maps a weight of any model by its own path.
GENERIC = ("diffusion_model.", "lora_unet_")
# The one under which it maps a parameter that is no `.weight`.
PARAMETER_PREFIX = "diffusion_model."


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


@dataclass(frozen=True, eq=False)
class Encoder:
    """A text encoder of an architecture.

    ``name`` is ComfyUI's; its weights are `text_encoders.<name>.transformer.<root><path>` there, and ``weights`` are
    the paths. ``mapped`` are the other prefixes that every supported ComfyUI knows, with the weights it knows under
    them; the first is kohya's. ``also`` are further parts that mean this encoder. ``width`` is the number of columns
    of its attention's weights.
    """

    part: str
    name: str
    weights: tuple[str, ...]
    mapped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    diffusers: str = ""
    also: tuple[str, ...] = ()
    root: str = ""
    width: int | None = None

    @cached_property
    def table(self) -> Table[str]:
        return Table((path, path) for path in expand(*self.weights))

    @cached_property
    def kohya(self) -> Mapping[str, frozenset[str]]:
        return {prefix: frozenset(expand(*paths)) for prefix, paths in self.mapped}


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
        return int(numbers["b"]) < self.blocks[weight.split(".{b}", 1)[0]]

    def encoder_of(self, part: str) -> Encoder | None:
        return next((e for e in self.encoders if e.part == part or part in e.also), None)
