"""How the deltas of one weight are merged and truncated to a rank.

method                                  route                      dense delta
the plain sum here, all with factors    truncate_sum               no
Reweight                                the sum at new strengths   only if an adapter has no factors
InCore                                  core_space                 no; adapters without factors get some
any other                               truncated_dense_merge      yes
"""

from __future__ import annotations

from ..adapters.base import Adapter
from ..compute.context import Compute
from ..compute.devices import on_device
from ..methods.consensus import weighted_sum
from ..methods.kernels import Blockwise, Elementwise, InCore, Reweight
from ..numerics.buffers import ReusableBuffer
from ..numerics.core_space import core_space
from ..numerics.core_svd import truncate_core
from ..numerics.dense_svd import truncate_dense_by_rule
from ..numerics.rank_rules import RankRule, fixed_rank, ratio_rank
from ..numerics.stacking import Term
from ..numerics.sum_svd import truncate_sum
from ..numerics.truncated import Truncated
from .delta_rows import factors_on
from .dense_merge import truncated_dense_merge
from .fused_rows import Contribution
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
        if not group.has_all_factors:
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
        terms, streams = [], []
        for contribution, stream in zip(group.contributions, self._settings.streams(group, "core"), strict=True):
            term = _term(contribution, group, compute)
            if term is not None:
                terms.append(term)
                streams.append(stream)
        space = core_space(terms) if terms else None
        if space is None:
            return None
        compute.check()
        if len(space.deltas) == 1 and not self._settings.method.uses_density:
            core = truncate_core(space.sum(), fixed_rank(rank))
            return None if core is None else space.expand(core)
        merged = kernel.merge(space, self._settings.of_method, streams)
        compute.check()
        core = truncate_core(merged, fixed_rank(rank))
        return None if core is None else space.expand(core, kernel.keeps_columns)


def is_plain_sum(group: WeightGroup, settings: MergeSettings) -> bool:
    """Whether the mode amounts to the weighted sum of low-rank factors here."""
    is_sum = settings.keeps_all and (settings.method.is_sum or len(group.contributions) == 1)
    return is_sum and group.has_all_factors


def forms_delta(group: WeightGroup, settings: MergeSettings) -> bool:
    """Whether merging this weight takes the memory of a dense delta."""
    if isinstance(settings.method.kernel, Reweight | InCore):
        return not group.has_all_factors
    return not is_plain_sum(group, settings)


def factored(group: WeightGroup, adapter: Adapter, compute: Compute, rule: RankRule | None = None) -> Truncated | None:
    """The SVD of an adapter without factors, exact, or truncated by a rule; None if its delta is zero."""
    dense = on_device(adapter.dense(), compute.device)
    return truncate_dense_by_rule(dense, rule or fixed_rank(min(group.rows, group.columns)), compute.check)


def _term(contribution: Contribution, group: WeightGroup, compute: Compute) -> Term | None:
    """The up and down of a contribution, and the weight of their product; None when its delta is zero."""
    place = compute.float64_device
    if contribution.adapter.has_factors:
        weight = contribution.effective_weight
        return (*factors_on(place, contribution), weight) if weight else None
    # each direction will count, so none may be rounding
    without_rounding = ratio_rank(1 / RTOL_DENSE, min(group.rows, group.columns))
    exact = factored(group, contribution.adapter, compute, without_rounding)
    return None if exact is None else (exact.up.to(place), exact.down.to(place), contribution.strength)
