"""The data model: an Adapter is what a LoRA does to one parameter, a Lora a set of adapters. All are immutable."""

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
from .products import Dense, LowRank, Product

WEIGHT, BIAS = "weight", "bias"

# rows(start, stop): these rows of a dense delta, float32.
Rows = Callable[[int, int], Tensor]


class Adapter(ABC):
    """What a LoRA does to one parameter of a model: an immutable dataclass with at least these fields.

    ``name`` is the module's name as in the file. ``block_weight`` multiplies the LoRA's strength for this module.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    family: str
    name: str
    block_weight: float
    parameter: str = WEIGHT  # or BIAS: which parameter of the module it changes

    @property
    def key(self) -> str:
        """Unique among the adapters of a LoRA."""
        return self.name if self.parameter == WEIGHT else f"{self.name}.{self.parameter}"

    @property
    def is_weight_dependent(self) -> bool:
        """Whether computing the change takes the model's own weight."""
        return False

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the parameter: (out, in[, kh, kw]), or (out,) of a bias or a norm."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """The rank of the factors, or else the largest rank that the delta can have."""

    @property
    def is_convolution(self) -> bool:
        """Whether the kernel is larger than 1x1; a 1x1 convolution counts as linear."""
        return math.prod(self.weight_shape[2:]) > 1

    @property
    def scale(self) -> float:
        """delta = scale * up @ down, not counting the block weight."""
        return 1.0

    @property
    def has_factors(self) -> bool:
        return False

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """Matrices up (out, r) and down (r, in * kh * kw): ``scale * up @ down`` is exactly the delta.

        None if the family has no factors, or if their rank is so large that the dense delta is cheaper.
        """
        return None

    @abstractmethod
    def dense(self) -> Tensor:
        """The delta as a float32 matrix (out, in * kh * kw) or vector (out,), not counting the block weight."""

    def rows(self) -> Rows:
        """A function that returns rows of ``dense()``. Families that can compute rows never hold the dense delta."""
        dense = self.dense()
        return lambda start, stop: dense[start:stop]

    def product(self) -> Product:
        """What the adapter adds to a layer's output, without the block weight. Only for weights, not for biases."""
        factors = self.factors()
        return Dense((self.dense(),), 1.0) if factors is None else LowRank(factors, self.scale)

    @abstractmethod
    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        """The tensors that a file stores, with the endings of their keys; the block weight is multiplied in."""

    def in_peft(self) -> Adapter | None:
        """This adapter for a file of PEFT's, which has no alphas; None if it is to be written as a plain LoRA."""
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
    """A change stored in full: added to a weight (out, in[, kh, kw]), or to a bias or a norm (out,)."""

    family: str = field(default="full difference", init=False)
    name: str
    value: LazyTensor
    parameter: str = WEIGHT
    block_weight: float = 1.0

    @classmethod
    def of(cls, name: str, value: Tensor, parameter: str = WEIGHT, block_weight: float = 1.0) -> Difference:
        """A difference in memory."""
        return cls(name, LazyTensor.of(value), parameter, block_weight)

    @property
    def rank(self) -> int:
        return min(self.value.shape[0], math.prod(self.value.shape[1:]))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.value.shape

    def dense(self) -> Tensor:
        return self.rows()(0, self.value.shape[0])

    def rows(self) -> Rows:
        def read(start: int, stop: int) -> Tensor:
            part = self.value.rows(start, stop)
            return (part if part.ndim < 2 else part.flatten(1)).float()

        return read

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        yield ".diff" if self.parameter == WEIGHT else ".diff_b", self.value.scaled(self.block_weight)


@dataclass(frozen=True, eq=False)
class Replacement(Adapter):
    """A parameter that replaces the model's own, whatever the strength (ComfyUI's set_weight)."""

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

    def dense(self) -> Tensor:
        raise LoraError(f"Module {self.name} replaces the model's weight and can't be merged with a change of it.")

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        yield ".set_weight", LazyTensor.of(self.value)


class WeightDependentAdapter(Adapter):
    """An adapter whose delta takes the model's own weight; without it, it can be saved and applied at strength 1."""

    @property
    def is_weight_dependent(self) -> bool:
        return True

    @property
    def rank(self) -> int:
        return 0

    def dense(self) -> Tensor:
        raise LoraError(needs_model_message(self))

    def require_full_strength(self) -> None:
        """Raise LoraError if the block weight isn't 1: the change isn't proportional to it."""
        if self.block_weight != 1:
            raise LoraError(
                f"{self.family} module {self.name} can only be saved at strength 1, because its change isn't "
                "proportional to the strength. Merge it with a model connected, or apply it instead of saving it."
            )


def worth_factors(adapter: Adapter) -> bool:
    """Whether the rank is small enough for exact algebra on the factors to beat the dense delta."""
    shape = adapter.weight_shape
    return 2 * adapter.rank <= min(shape[0], math.prod(shape[1:]))


AdapterT = TypeVar("AdapterT", bound=Adapter)


def with_block_weight(adapter: AdapterT, block_weight: float) -> AdapterT:
    return replace(adapter, block_weight=block_weight)


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA: its adapters by key, in file order, and the strengths to merge or apply it with.

    ``metadata`` is that of its file or of the operation that made it. ``source`` identifies the file of an unchanged
    LoRA (provenance/recipe.py); operations that make a new LoRA leave it out. ``architecture`` is the model it is for,
    if a merge, a connected model or the user decided that; None leaves it to the names. ``notes`` are sentences for the
    user: what was doubtful or left out, or counts differently than in ComfyUI's own loader. ``extras`` are tensors that
    pass through unmerged, by their key in the file (formats/embeddings.py).

    ComfyUI's cache shares these values between nodes, so nothing may write into a Lora, its mappings or its tensors:
    every operation returns a new one.
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
        """The strength for its part of the model times the module's block weight."""
        part = self.strength_clip if is_text_encoder(module.name) else self.strength_model
        return part * module.block_weight

    def with_strengths(self, strength_model: float, strength_clip: float) -> Lora:
        """The same LoRA with its strengths multiplied by these. Never -0.0, which a recipe would tell from 0.0.

        Raises LoraError if one of them isn't finite.
        """
        for part, strength in (("model", strength_model), ("text encoder", strength_clip)):
            if not math.isfinite(strength):
                raise LoraError(f"{self.name}: its strength in the {part} is {strength}. Choose a number.")
        return replace(
            self,
            strength_model=self.strength_model * strength_model + 0.0,
            strength_clip=self.strength_clip * strength_clip + 0.0,
        )

    def baked(self) -> Lora:
        """The same LoRA at strength 1, its strengths moved into block weights; modules at strength 0 are left out."""
        modules = [with_block_weight(m, self.strength_of(m)) for m in self.modules.values()]
        return replace(
            self,
            modules=by_key(m for m in modules if m.block_weight != 0),
            strength_model=1.0,
            strength_clip=1.0,
        )


def by_key(modules: Iterable[Adapter]) -> dict[str, Adapter]:
    return {module.key: module for module in modules}


def needs_model_message(module: Adapter) -> str:
    """The message for merging such a module without its model."""
    return (
        f"The change of {module.family} module {module.name} depends on the model's own weight. Connect the model and "
        "clip that the LoRA is for to the model and clip inputs of PM Merge LoRA SVD or PM Resize LoRA."
    )
