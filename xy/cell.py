"""One cell of a plot: the settings of its merge, and the merge itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..merge.adapters.base import Adapter, Lora
from ..merge.compute.context import Compute
from ..merge.merging.key_resolver import ModelNames, resolver_for
from ..merge.merging.matching import group_by_weight
from ..merge.merging.merge_deltas import merge_deltas
from ..merge.merging.merge_factors import merge_factors, require_factors
from ..merge.merging.options import AS_GIVEN, OF_THE_MODE, MergeOptions
from ..merge.methods.parameters import complete
from ..merge.methods.registry import PARAMETERS, SVD_SUFFIX, Method, method_of

ALL_STRENGTHS = "all strengths"
_STRENGTH = re.compile(r"strength ([1-9]\d*)")


def strength_name(number: int) -> str:
    """The name of the setting that multiplies one LoRA's strengths, counted from 1."""
    return f"strength {number}"


def strength_number(setting: str) -> int | None:
    """The LoRA whose strengths this setting multiplies; None for any other setting."""
    found = _STRENGTH.fullmatch(setting)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Cell:
    """The settings of one merge.

    Modes that end in _svd merge like PM Merge LoRA SVD, the others like PM Merge LoRA. ``strengths`` multiply those
    that the LoRAs came with, one for each LoRA in their order. ``taken`` are the LoRAs to merge, by number and in this
    order; empty: all of them.
    """

    mode: str
    strengths: tuple[float, ...] = ()
    all_strengths: float = 1.0
    density: float = 1.0
    svd_rank: int = 0  # 0: the largest rank among the inputs
    svd_conv_rank: int = 0
    seed: int = 0
    strength_rule: str = OF_THE_MODE
    weights: str = AS_GIVEN
    parameters: tuple[tuple[str, float], ...] = ()  # of methods, by name
    taken: tuple[int, ...] = ()

    @classmethod
    def of(cls, mode: str, options: MergeOptions, **settings: Any) -> Cell:
        """A cell with the options of a merge node."""
        parameters = tuple(options.parameters.items())
        return cls(
            mode, **settings, strength_rule=options.strength_rule, weights=options.weights, parameters=parameters
        )

    def changed(self, settings: Mapping[str, Any]) -> Cell:
        """The cell with the settings of its axes, by the name of a field, of a strength or of a method's parameter."""
        cell = self
        for name, value in settings.items():
            number = strength_number(name)
            if number is not None:
                strengths = (*cell.strengths[: number - 1], value, *cell.strengths[number:])
                cell = replace(cell, strengths=strengths)
            elif name == ALL_STRENGTHS:
                cell = replace(cell, all_strengths=value)
            elif name in PARAMETERS:
                cell = replace(cell, parameters=tuple((dict(cell.parameters) | {name: value}).items()))
            else:
                cell = replace(cell, **{name: value})
        return cell

    def strength_of(self, number: int) -> float:
        """What multiplies the strengths of a LoRA, counted from 1."""
        return self.strengths[number - 1] * self.all_strengths

    @property
    def options(self) -> MergeOptions:
        """Raises LoraError for unknown names and values out of range."""
        return MergeOptions(self.strength_rule, self.weights, dict(self.parameters))

    @property
    def method(self) -> Method:
        """Raises LoraError for an unknown mode."""
        return method_of(self.mode)

    @property
    def on_deltas(self) -> bool:
        return self.mode.endswith(SVD_SUFFIX)

    def essential(self) -> Cell:
        """The cell with the settings that its mode ignores reset to their defaults: equal ones have the same merge."""
        return replace(
            self,
            strengths=tuple(strength * self.all_strengths for strength in self.strengths),
            all_strengths=1.0,
            density=self.density if self.method.uses_density else 1.0,
            svd_rank=self.svd_rank if self.on_deltas else 0,
            svd_conv_rank=self.svd_conv_rank if self.on_deltas else 0,
            seed=self.seed if self.method.uses_seed else 0,
            parameters=tuple(complete(self.method.parameters, dict(self.parameters)).items()),
        )

    def described(self) -> dict[str, Any]:
        """The settings that count, in plain JSON and by the names of the merge nodes' widgets, without strengths."""
        cell = self.essential()
        settings: dict[str, Any] = {"mode": cell.mode}
        if cell.method.uses_density:
            settings["density"] = cell.density
        if cell.on_deltas:
            settings |= {"svd_rank": cell.svd_rank, "svd_conv_rank": cell.svd_conv_rank}
        if cell.method.uses_seed:
            settings["seed"] = cell.seed
        settings |= {"strength_rule": cell.strength_rule, "weights": cell.weights}
        return settings | ({"parameters": dict(cell.parameters)} if cell.parameters else {})

    def check(self, loras: Sequence[Lora]) -> None:
        """Raise LoraError if merging these LoRAs would fail, as far as can be told without merging."""
        # weight-dependent modules can be checked only with a model, when the cell is sampled
        known = [replace(lora, modules=_without_base(lora)) for lora in loras]
        groups = group_by_weight(known, resolver_for(known))
        if not self.on_deltas and self.method.kernel is not None:
            require_factors(groups, self.mode)

    def merge(self, loras: Sequence[Lora], compute: Compute, model: ModelNames | None = None) -> Lora:
        """The merge, bit for bit what the merge node gives for these as its inputs. They have the cell's strengths.

        A LoRA at strength 0 is passed on too, because the masks of the dare modes depend on the input index. Raises
        LoraError like the merge nodes.
        """
        if self.on_deltas:
            ranks = self.svd_rank, self.svd_conv_rank
            return merge_deltas(loras, self.mode, self.density, *ranks, self.seed, compute, model, self.options)
        return merge_factors(loras, self.mode, self.density, self.seed, compute, model, self.options)


def _without_base(lora: Lora) -> dict[str, Adapter]:
    return {key: module for key, module in lora.modules.items() if not module.is_weight_dependent}
