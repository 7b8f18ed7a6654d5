"""How the deltas of one weight are merged and truncated to a rank.

method                                        route                    dense delta
the plain sum here, all with factors          truncate_sum             no
Reweight                                      the sum at new strengths  only if an adapter has no factors
InCore                                        core_space               no; adapters without factors are factored
any other                                     truncated_dense_merge    yes
"""

from __future__ import annotations

from torch import Tensor

from ..adapters.base import Adapter
from ..compute.context import Compute
from ..compute.devices import on_device
from ..methods.consensus import weighted_sum
from ..methods.kernels import Blockwise, Elementwise, InCore, Reweight
from ..numerics.buffers import ReusableBuffer
from ..numerics.core_space import core_space
from ..numerics.core_svd import truncate_core
from ..numerics.dense_svd import truncate_dense_by_rule
from ..numerics.rank_rules import fixed_rank
from ..numerics.stacking import Term
from ..numerics.sum_svd import truncate_sum
from ..numerics.truncated import Truncated
from .delta_rows import factors_on
from .dense_merge import truncated_dense_merge
from .gram import reweighted, without_zeros
from .matching import WeightGroup
from .settings import MergeSettings

# Singular values of a dense float32 delta below this share of its largest may be rounding of its elements.
RTOL_DENSE = 1e-6

_SUM = Elementwise(weighted_sum)


class DeltaMerger:
    """Merges the deltas of one weight after the other. ``undefined`` are the modules that got the plain sum because the
    method is not defined for them."""

    def __init__(self, settings: MergeSettings, buffer: ReusableBuffer) -> None:
        self._settings, self._buffer = settings, buffer
        self.undefined: list[str] = []

    def merge(self, group: WeightGroup, rank: int, compute: Compute) -> Truncated | None:
        """The merged delta, truncated to a rank; None when it is zero."""
        kernel = self._settings.method.kernel
        if is_plain_sum(group, self._settings):
            return self._sum(group, rank, compute)
        if isinstance(kernel, Reweight):
            return self._reweighted(group, kernel, rank, compute)
        if isinstance(kernel, InCore):
            return self._in_core(group, kernel, rank, compute)
        if isinstance(kernel, Blockwise):
            used, _ = without_zeros(group, compute)
            if used is None:
                return None
            group = used
        assert kernel is not None
        return truncated_dense_merge(group, kernel, self._settings, rank, compute, self._buffer)

    def _sum(self, group: WeightGroup, rank: int, compute: Compute) -> Truncated | None:
        if not has_all_factors(group):
            return truncated_dense_merge(group, _SUM, self._settings, rank, compute, self._buffer)
        terms = [
            (*factors_on(compute.float64_device, one), one.effective_weight)
            for one in group.contributions
            if one.effective_weight != 0
        ]
        return truncate_sum(terms, fixed_rank(rank)) if terms else None

    def _reweighted(self, group: WeightGroup, kernel: Reweight, rank: int, compute: Compute) -> Truncated | None:
        changed, defined = reweighted(group, kernel, self._settings, compute)
        if not defined:
            self.undefined.append(group.name)
        return None if changed is None else self._sum(changed, rank, compute)

    def _in_core(self, group: WeightGroup, kernel: InCore, rank: int, compute: Compute) -> Truncated | None:
        factored = [_term(one.adapter, one.strength, group, compute) for one in group.contributions]
        numbers = [number for number, term in enumerate(factored) if term is not None]
        terms = [term for term in factored if term is not None]
        space = core_space(terms) if terms else None
        if space is None:
            return None
        compute.check()
        if len(space.deltas) == 1 and not self._settings.method.uses_density:
            core = truncate_core(space.sum(), fixed_rank(rank))
            return None if core is None else space.expand(core)
        streams = self._settings.streams(group, "core")
        merged = kernel.merge(space, self._settings.of_method, [streams[number] for number in numbers])
        compute.check()
        core = truncate_core(merged, fixed_rank(rank))
        return None if core is None else space.expand(core, kernel.keeps_columns)


def is_plain_sum(group: WeightGroup, settings: MergeSettings) -> bool:
    """Whether the mode amounts to the weighted sum of low-rank factors here."""
    is_sum = settings.keeps_all and (settings.method.is_sum or len(group.contributions) == 1)
    return is_sum and has_all_factors(group)


def has_all_factors(group: WeightGroup) -> bool:
    return all(one.adapter.has_factors for one in group.contributions)


def forms_delta(group: WeightGroup, settings: MergeSettings) -> bool:
    """Whether merging this weight takes the memory of a dense delta."""
    if isinstance(settings.method.kernel, Reweight | InCore):
        return not has_all_factors(group)
    return not is_plain_sum(group, settings)


def factored(group: WeightGroup, adapter: Adapter, compute: Compute) -> Truncated | None:
    """The exact SVD of an adapter without factors, at full rank; None when its delta is zero."""
    dense = on_device(adapter.dense(), compute.device)
    return truncate_dense_by_rule(dense, fixed_rank(min(group.rows, group.columns)), compute.check)


def _term(adapter: Adapter, strength: float, group: WeightGroup, compute: Compute) -> Term | None:
    """The up and down of a contribution, and the weight of their product; None when its delta is zero."""
    place = compute.float64_device
    factors = adapter.factors()
    if factors is not None:
        weight = strength * adapter.scale
        return (on_device(factors[0], place), on_device(factors[1], place), weight) if weight else None
    dense = on_device(adapter.dense(), compute.device)
    exact = truncate_dense_by_rule(dense, _without_rounding, compute.check)
    return None if exact is None else (exact.up.to(place), exact.down.to(place), strength)


def _without_rounding(values: Tensor) -> int:
    """The rank rule for a dense float32 delta whose every direction will count: without those that are rounding."""
    return max(1, int((values > RTOL_DENSE * values[0]).sum()))
