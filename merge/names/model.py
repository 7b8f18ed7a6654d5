"""What is known of an architecture's names: its weights, their other spellings, its text encoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from .patterns import Table, expand

WHOLE = (Fraction(0), Fraction(1))
# The prefixes under which ComfyUI maps a weight of any model by its own path.
GENERIC = ("diffusion_model.", "lora_unet_")


@dataclass(frozen=True)
class Target:
    """What a name means: rows ``start`` to ``stop`` (as parts of all its rows) of a weight of ComfyUI's model.

    ``weight`` is canonical: the part of the model (model, te1, te2, te3, te), a colon, and the weight's own path there
    with underscores. ``swapped``: the two halves of the rows stand in the other order under this name, so that its
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


@dataclass(frozen=True)
class Rule:
    """Another spelling of a weight, or of some of its rows.

    ``prefixes`` are those under which every supported ComfyUI maps this spelling (with dots where the prefix ends in
    one, flat where it ends in an underscore). ``diffusers``: it is the module's path in diffusers. ``usual``: trainers
    write it; what ComfyUI reads besides is no sign of the architecture.
    """

    alias: str
    weight: str
    start: Fraction = WHOLE[0]
    stop: Fraction = WHOLE[1]
    swapped: bool = False
    prefixes: tuple[str, ...] = ()
    diffusers: bool = True
    usual: bool = True


def renamed(pairs: Iterable[tuple[str, str]], alias: str = "", weight: str = "", **options) -> list[Rule]:
    """Rules for whole weights from pairs (alias, weight), each behind the prefix given for its side."""
    return [Rule(alias + a, weight + w, **options) for a, w in pairs]


def rows(weight: str, parts: Iterable[tuple[str, int]], alias: str = "", **options) -> list[Rule]:
    """Rules for a fused weight: its aliases from the first row to the last, each with its share of the rows."""
    parts = list(parts)
    total = sum(share for _, share in parts)
    rules, start = [], 0
    for name, share in parts:
        rules.append(Rule(alias + name, weight, Fraction(start, total), Fraction(start + share, total), **options))
        start += share
    return rules


def swapped(alias: str, weight: str, **options) -> Rule:
    """A rule for a modulation whose halves, shift and scale, diffusers keeps in the other order."""
    return Rule(alias, weight, swapped=True, **options)


def under(prefixes: tuple[str, ...], rules: Iterable[Rule]) -> list[Rule]:
    """The rules as every supported ComfyUI maps them, under these prefixes."""
    return [replace(rule, prefixes=prefixes) for rule in rules]


@dataclass(frozen=True, eq=False)
class Encoder:
    """A text encoder of an architecture.

    ``name`` is ComfyUI's; its weights are `text_encoders.<name>.transformer.<root><path>` there, and ``weights`` are
    the paths. ``mapped`` are the other prefixes that every supported ComfyUI knows, with the weights it knows under
    them; the first is kohya's. ``also`` are further parts that mean this encoder. ``width`` is what its attention
    takes in.
    """

    part: str
    name: str
    weights: tuple[str, ...]
    mapped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    diffusers: str = ""
    also: tuple[str, ...] = ()
    root: str = ""
    width: int | None = None
    table: Table[str] = field(init=False, repr=False)
    kohya: Mapping[str, frozenset[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = expand(*self.weights)
        object.__setattr__(self, "table", Table((path, path) for path in weights))
        object.__setattr__(self, "kohya", {prefix: frozenset(expand(*paths)) for prefix, paths in self.mapped})


@dataclass(frozen=True, eq=False)
class Architecture:
    """One kind of model.

    Architectures of one ``kin`` read every name the same and differ in size; ``size`` is what two LoRAs must share to
    be mixed. ``blocks`` are the lists of blocks by their path, with how many there are: a name beyond them is of
    another model. ``shapes`` are the rows and columns of weights that tell architectures apart.

    ``prefixes`` are those under which every supported ComfyUI maps the weights' own paths; those of ``unsure`` have no
    own path that all of them map. ``kohya`` is how kohya's trainer writes: "own" paths or those of "diffusers".
    ``peft`` is what diffusers calls the model. ``foreign`` are parts of raw names that rule this architecture out.
    ``yields_to``: the kin that is assumed where a LoRA could be of either.
    """

    name: str
    kin: str
    size: int
    weights: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    encoders: tuple[Encoder, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    prefixes: tuple[str, ...] = GENERIC
    unsure: frozenset[str] = frozenset()
    kohya: str = "own"
    peft: str = "transformer."
    foreign: tuple[str, ...] = ()
    yields_to: tuple[str, ...] = ()
    own: Table[str] = field(init=False, repr=False)
    aliases: Table[Rule] = field(init=False, repr=False)
    spellings: Mapping[str, tuple[Rule, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = expand(*self.weights)
        known = frozenset(weights)
        rules = [rule for rule in self.rules if rule.weight in known]
        by_weight: dict[str, list[Rule]] = {}
        for rule in rules:
            by_weight.setdefault(rule.weight, []).append(rule)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "own", Table((weight, weight) for weight in weights))
        object.__setattr__(self, "aliases", Table((rule.alias, rule) for rule in rules))
        object.__setattr__(self, "spellings", {weight: tuple(found) for weight, found in by_weight.items()})

    def has_block(self, weight: str, numbers: Mapping[str, str]) -> bool:
        """Whether the block that a weight's pattern names with these numbers is one of the model's."""
        if "b" not in numbers:
            return True
        return int(numbers["b"]) < self.blocks[weight.split(".{b}", 1)[0]]

    def encoder_of(self, part: str) -> Encoder | None:
        return next((e for e in self.encoders if e.part == part or part in e.also), None)
