"""The data model: what a LoRA does to one parameter (Adapter and its kinds) and a set of them (Lora). All immutable."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..errors import LoraError
from ..lazy import LazyTensor
from ..names import Architecture
from ..names.prefixes import is_text_encoder

WEIGHT, BIAS = "weight", "bias"

# Gives the rows start to stop of a dense delta, float32.
Rows = Callable[[int, int], Tensor]


class Adapter(ABC):
    """What a LoRA does to one parameter of a model: an immutable dataclass with at least these fields.

    ``name`` is the module's name as the file spells it; ``block_weight`` multiplies the LoRA's strength for it.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    family: str
    name: str
    block_weight: float
    parameter: str = WEIGHT  # which parameter of the module it changes: its weight or its bias

    @property
    def key(self) -> str:
        """What tells this adapter from the others of its LoRA."""
        return self.name if self.parameter == WEIGHT else f"{self.name}.{self.parameter}"

    @property
    def needs_base(self) -> bool:
        """Whether the change can only be computed from the model's own weight."""
        return False

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the parameter: (out, in[, kh, kw]), or (out,) of a bias or a norm."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """The largest rank that the delta can have; that of its factors where it has any."""

    @property
    def is_convolution(self) -> bool:
        """Whether the kernel is larger than 1x1: a 1x1 convolution is a linear map and counts as one."""
        return math.prod(self.weight_shape[2:]) > 1

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by to be the delta; block weight not counted."""
        return 1.0

    @property
    def has_factors(self) -> bool:
        return False

    @abstractmethod
    def factors(self) -> tuple[Tensor, Tensor] | None:
        """Matrices up (out, r) and down (r, in * kh * kw): ``scale * up @ down`` is the delta, exactly.

        None where the family has none, or where their rank is so large that the dense delta is the cheaper form.
        """

    @abstractmethod
    def dense(self) -> Tensor:
        """The delta as a float32 matrix (out, in * kh * kw), or a vector (out,); block weight not counted."""

    def rows(self) -> Rows:
        """What gives rows of ``dense()``; families that can form them one by one do, and hold no dense delta."""
        dense = self.dense()
        return lambda start, stop: dense[start:stop]

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        """What a file holds of it, by the key's ending, with the block weight in it."""

    def in_peft(self) -> Adapter | None:
        """The same change in a form for PEFT's files, which have no alpha, other than a LoRA; None if there is none."""
        return None


@dataclass(frozen=True, eq=False)
class LoraModule(Adapter):
    """The low-rank adapter of one weight: its delta is ``alpha / rank * up @ down``.

    ``up`` is (out, rank) and ``down`` (rank, in), with the kernel's dimensions appended for a convolution:
    up (out, rank, 1, 1), down (rank, in, kh, kw). Both are floating point, of any precision. ``alpha`` is finite and
    may be zero or negative. ``reshape`` is the shape that the weight is padded to with zeros first, for the few LoRAs
    that widen a layer (Flux control).
    """

    family: str = field(default="LoRA", init=False)
    name: str
    up: LazyTensor
    down: LazyTensor
    alpha: float
    block_weight: float = 1.0
    reshape: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        up: Tensor,
        down: Tensor,
        alpha: float,
        block_weight: float = 1.0,
        reshape: tuple[int, ...] | None = None,
    ) -> LoraModule:
        """A module with its factors in memory."""
        return cls(name, LazyTensor.of(up), LazyTensor.of(down), alpha, block_weight, reshape)

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """The factor between ``up @ down`` and the delta, not counting the block weight."""
        return self.alpha / self.rank

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.up.shape[0], *self.down.shape[1:])

    @property
    def has_factors(self) -> bool:
        return True

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.up.materialize().flatten(1), self.down.materialize().flatten(1)

    def dense(self) -> Tensor:
        up, down = self.factors()
        return (up.float() * self.scale) @ down.float()

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        yield ".lora_up.weight", self.up
        yield ".lora_down.weight", self.down
        yield ".alpha", LazyTensor.of(torch.tensor(self.alpha * self.block_weight, dtype=torch.float32))
        if self.reshape is not None:
            yield ".reshape_weight", LazyTensor.of(torch.tensor(self.reshape))


@dataclass(frozen=True, eq=False)
class Difference(Adapter):
    """What is added to a parameter as it is: to a full weight (out, in[, kh, kw]), or to a bias or a norm (out,)."""

    family: str = field(default="full difference", init=False)
    name: str
    value: LazyTensor
    parameter: str = WEIGHT
    block_weight: float = 1.0

    @property
    def rank(self) -> int:
        return min(self.value.shape[0], math.prod(self.value.shape[1:]))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    def factors(self) -> None:
        return None

    def dense(self) -> Tensor:
        return self.rows()(0, self.value.shape[0])

    def rows(self) -> Rows:
        def rows(start: int, stop: int) -> Tensor:
            part = self.value.rows(start, stop)
            return (part if part.ndim < 2 else part.flatten(1)).float()

        return rows

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        yield ".diff" if self.parameter == WEIGHT else ".diff_b", self.value.scaled(self.block_weight)


@dataclass(frozen=True, eq=False)
class Replacement(Adapter):
    """A parameter that takes the place of the model's own, whatever the strength (ComfyUI's set_weight)."""

    family: str = field(default="replaced weight", init=False)
    name: str
    value: Tensor
    block_weight: float = 1.0

    @property
    def rank(self) -> int:
        return 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    def factors(self) -> None:
        return None

    def dense(self) -> Tensor:
        raise LoraError(f"Module {self.name} replaces the model's weight and can't be merged with a change of it.")

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        yield ".set_weight", LazyTensor.of(self.value)


def worth_factors(adapter: Adapter) -> bool:
    """Whether an adapter's rank is small enough that exact algebra on its factors beats its dense delta."""
    shape = adapter.weight_shape
    return 2 * adapter.rank <= min(shape[0], math.prod(shape[1:]))


AdapterT = TypeVar("AdapterT", bound=Adapter)


def with_block_weight(adapter: AdapterT, block_weight: float) -> AdapterT:
    return replace(adapter, block_weight=block_weight)


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA: its adapters by key, in file order, and the strengths it is to be merged or applied with.

    ``metadata`` is that of its file, or of what made it. ``source`` tells the file of one that comes from a file as it
    is (see recipe.py): what makes a new LoRA of it leaves that out. ``architecture`` is what it is for, where a merge,
    a connected model or the user decided that; None leaves it to the names. ``notes`` are sentences for the user about
    what was doubtful or left out when it was made, or counts differently than in ComfyUI's own loader. ``extras`` are
    tensors that are passed through unmerged, by their key in the file (see formats/embeddings.py).

    Nodes share these values through ComfyUI's cache, so nothing may write into one, its mappings or its tensors:
    every operation returns a new Lora.
    """

    name: str
    modules: Mapping[str, Adapter]
    strength_model: float = 1.0
    strength_clip: float = 1.0
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, object] = field(default_factory=dict)
    architecture: Architecture | None = None
    notes: tuple[str, ...] = ()
    extras: Mapping[str, LazyTensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for mapping in ("modules", "metadata", "source", "extras"):
            object.__setattr__(self, mapping, MappingProxyType(dict(getattr(self, mapping))))

    def strength_of(self, module: Adapter) -> float:
        """What ``module`` counts: the strength of its part of the model times its block weight."""
        part = self.strength_clip if is_text_encoder(module.name) else self.strength_model
        return part * module.block_weight

    def with_strengths(self, strength_model: float, strength_clip: float) -> Lora:
        """This LoRA with its strengths multiplied by these."""
        return replace(
            self,
            strength_model=self.strength_model * strength_model,
            strength_clip=self.strength_clip * strength_clip,
        )

    def baked(self) -> Lora:
        """The same LoRA with its strengths as block weights, at strength 1; what counts nothing is left out."""
        modules = [with_block_weight(m, self.strength_of(m)) for m in self.modules.values()]
        return replace(
            self,
            modules=by_key(m for m in modules if m.block_weight != 0),
            strength_model=1.0,
            strength_clip=1.0,
        )


def by_key(modules: Iterable[Adapter]) -> dict[str, Adapter]:
    return {module.key: module for module in modules}


def needs_model(module: Adapter) -> str:
    """What to tell a user who merges such a module without its model."""
    return (
        f"{module.family} module {module.name} changes the model's weight in a way that depends on it. "
        "Connect the model and clip that it is for to the model and clip inputs of PM Merge LoRA SVD or PM Resize LoRA."
    )


def only_whole(module: Adapter) -> str:
    """What to tell a user who saves such a module at another strength than 1."""
    return (
        f"{module.family} module {module.name} can only be written at strength 1: its strength does not multiply. "
        "Merge it with a model connected, or apply it instead of saving it."
    )
