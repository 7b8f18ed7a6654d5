"""The numbers of one LoRA: those of its weights, and what they add up to by block, by role and as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adapters.base import Adapter, Lora
from ..merging.key_resolver import ModelNames, resolver_for
from ..names.roles import role_order
from ..numerics.spectrum import rank_holding
from ..provenance.trigger_words import named_words
from .places import Place, places_in
from .weights import PERCENTS, WeightedProduct, WeightNumbers, as_product, measure

BASE_MODEL = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name")


@dataclass(frozen=True)
class Part:
    """A block, a role or the weights of one role in one block: norms add up in quadrature.

    ``share`` is its share of the LoRA's energy, ``count`` how many of its weights were measured, ``unmeasured`` how
    many were not.
    """

    norm: float
    share: float
    count: int
    unmeasured: int = 0


@dataclass(frozen=True, eq=False)
class LoraNumbers:
    """``weights`` and ``places`` are by the adapters' keys.

    ``norm`` is the root of the summed energies, ``effective_rank`` the mean of the weights' by energy, and ``rank_for``
    the smallest ranks such that all weights truncated to them hold 90, 95 and 99 % of the whole energy. All of them
    count the measured weights only. They are None if nothing is measured, and the last two also if a measured weight
    is too large for its spectrum. ``kept`` is the share of the energy that
    rank 1, 2, ... keeps.
    """

    name: str
    strengths: tuple[float, float]
    model: str | None
    weights: Mapping[str, WeightNumbers]
    places: Mapping[str, Place]
    norm: float | None
    effective_rank: float | None
    rank_for: tuple[int, ...] | None
    kept: tuple[float, ...]
    base_model: str | None
    triggers: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def rank(self) -> int | None:
        """The largest rank of a weight."""
        return max((one.rank for one in self.weights.values() if one.rank is not None), default=None)

    @property
    def has_one_rank(self) -> bool:
        """Whether all weights have the same rank."""
        return len({one.rank for one in self.weights.values() if one.rank is not None}) == 1

    @property
    def unmeasured(self) -> list[str]:
        return [key for key, one in self.weights.items() if one.norm is None]

    def parts(self, key: Callable[[Place], object]) -> dict[object, Part]:
        """The weights grouped by something about their place, in order of appearance."""
        groups: dict[object, list[WeightNumbers]] = {}
        for name, numbers in self.weights.items():
            groups.setdefault(key(self.places[name]), []).append(numbers)
        return {group: self._part(numbers) for group, numbers in groups.items()}

    def blocks(self) -> dict[str, Part]:
        """By block, in model order."""
        places = sorted(self.places.values(), key=lambda place: place.order)
        parts = self.parts(lambda place: place.block)
        return {block: parts[block] for block in dict.fromkeys(place.block for place in places)}

    def roles(self) -> dict[str, Part]:
        """By role, in the order in which roles are read."""
        parts = self.parts(lambda place: place.role)
        return {role: parts[role] for role in sorted({place.role for place in self.places.values()}, key=role_order)}

    def _part(self, numbers: Sequence[WeightNumbers]) -> Part:
        measured = [one for one in numbers if one.norm is not None]
        energy = sum(one.energy for one in measured)
        share = energy / self.norm**2 if self.norm else 0.0
        return Part(math.sqrt(energy), share, len(measured), len(numbers) - len(measured))


class LoraMeter:
    """Measures a LoRA weight by weight: ``product`` for those that are compared with another LoRA, then ``finish``."""

    def __init__(self, lora: Lora, model: ModelNames | None, step: Callable[[], None]) -> None:
        self.lora = lora
        self._resolver = resolver_for([lora], model)
        self._step = step
        self._weights: dict[str, WeightNumbers] = {}
        self._spectrum = torch.zeros(0, dtype=torch.float64)
        self._has_all_spectra = True

    def product(self, adapter: Adapter) -> WeightedProduct | None:
        """``as_product(adapter)``; measures the adapter on the way if it is the LoRA's own and not yet measured."""
        product = as_product(adapter)
        if self.lora.modules.get(adapter.key) is adapter and adapter.key not in self._weights:
            self._measure(adapter, product)
        return product

    def finish(self) -> LoraNumbers:
        """Measure the remaining weights and add up."""
        for key, adapter in self.lora.modules.items():
            if key not in self._weights:
                self._measure(adapter, as_product(adapter))
        lora, place = self.lora, places_in(self.lora, self._resolver)
        weights = {key: self._weights[key] for key in lora.modules}
        measured = [one for one in weights.values() if one.norm is not None]
        total = sum(one.energy for one in measured)
        has_spectrum = self._has_all_spectra and total > 0
        sums = self._spectrum.cumsum(0)
        model = lora.architecture or self._resolver.architecture
        return LoraNumbers(
            name=lora.name,
            strengths=(lora.strength_model, lora.strength_clip),
            model=None if model is None else model.name,
            weights=weights,
            places={key: place(one.name) for key, one in weights.items()},
            norm=math.sqrt(total) if measured else None,
            effective_rank=_mean_effective_rank(measured),
            rank_for=tuple(rank_holding(self._spectrum, percent / 100) for percent in PERCENTS)
            if has_spectrum
            else None,
            kept=tuple((sums / sums[-1]).tolist()) if has_spectrum else (),
            base_model=next((lora.metadata[key] for key in BASE_MODEL if lora.metadata.get(key)), None),
            triggers=tuple(named_words(lora.metadata)),
            notes=lora.notes,
        )

    def _measure(self, adapter: Adapter, product: WeightedProduct | None) -> None:
        numbers, energies = measure(adapter, self.lora.strength_of(adapter), product)
        self._weights[adapter.key] = numbers
        if energies is not None:
            self._spectrum = _added(self._spectrum, energies)
        elif numbers.norm is not None:
            self._has_all_spectra = False
        self._step()


def _added(total: Tensor, energies: Tensor) -> Tensor:
    """The sum of two spectra by index, as long as the longer one."""
    longer, shorter = (total, energies) if len(total) >= len(energies) else (energies.clone(), total)
    longer[: len(shorter)] += shorter
    return longer


def _mean_effective_rank(measured: Sequence[WeightNumbers]) -> float | None:
    """The mean by energy; None if a weight that has some energy has no effective rank."""
    pairs = [(one.energy, one.effective_rank) for one in measured if one.energy > 0]
    if not pairs or any(rank is None for _, rank in pairs):
        return None
    total = sum(energy for energy, _ in pairs)
    return sum(energy * rank for energy, rank in pairs if rank is not None) / total
