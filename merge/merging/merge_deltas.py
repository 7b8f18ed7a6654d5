"""PM Merge LoRA SVD: merges LoRAs by their deltas, weight by weight, and truncates each result to a rank."""

from __future__ import annotations

from collections.abc import Sequence

from ..adapters.base import Adapter, Lora, LoraModule
from ..compute.context import CPU, Compute
from ..compute.precision import full_precision
from ..errors import LoraError
from ..methods.consensus import weighted_sum
from ..methods.registry import SVD_SUFFIX, delta_method
from ..numerics.buffers import ReusableBuffer
from ..numerics.rank_rules import fixed_rank
from ..numerics.sum_svd import truncate_sum
from ..numerics.truncated import Truncated
from .dense_merge import truncated_dense_merge
from .key_resolver import ModelNames, resolver_for
from .matching import WeightGroup, group_by_weight
from .merge_loop import MergeSettings, factors_on, merge_groups, merged_lora, names_for_recipe


@full_precision()
def merge_deltas(
    loras: Sequence[Lora],
    mode: str = "add_svd",
    density: float = 1.0,
    rank: int = 32,
    conv_rank: int = 0,
    seed: int = 0,
    compute: Compute = CPU,
    model: ModelNames | None = None,
) -> Lora:
    """PM Merge LoRA SVD: the mode acts on the deltas, and the result is truncated to a rank by SVD.

    ``rank`` is for linear and 1x1 modules, ``conv_rank`` for larger kernels; 0 is the largest rank among the inputs of
    that module. Sums of low-rank LoRAs are exact before the truncation and form no dense delta. Raises LoraError as
    merge_factors does, and for negative ranks.
    """
    settings = MergeSettings(delta_method(mode), density, seed)
    for name, value in (("rank", rank), ("conv rank", conv_rank)):
        if value < 0:
            raise LoraError(f"The {name} is {value}; it must be 0 (as the inputs) or more.")
    resolver = resolver_for(loras, model)
    groups = group_by_weight(loras, resolver)
    buffer = ReusableBuffer(max((group.rows * group.columns for group in groups), default=0))

    def merge_matrices(group: WeightGroup, compute: Compute) -> Adapter:
        wanted = (conv_rank if group.is_convolution else rank) or group.rank
        if _is_low_rank_sum(group, settings):
            best = _truncated_sum(group, wanted, compute)
        else:
            best = truncated_dense_merge(group, settings, wanted, compute, buffer)
        return _module(group, best, compute)

    modules = merge_groups(
        groups, settings, merge_matrices, lambda group: not _is_low_rank_sum(group, settings), compute
    )
    for_recipe = {"mode": settings.method.name + SVD_SUFFIX, **settings.for_recipe()}
    for_recipe |= {"rank": rank, "conv_rank": conv_rank, **names_for_recipe(resolver)}
    return merged_lora("merge_svd", for_recipe, loras, groups, modules, resolver, compute)


def _is_low_rank_sum(group: WeightGroup, settings: MergeSettings) -> bool:
    """Whether the mode amounts to the weighted sum of low-rank factors here."""
    is_sum = settings.keeps_all and (settings.method.consensus is weighted_sum or len(group.contributions) == 1)
    return is_sum and all(contribution.adapter.has_factors for contribution in group.contributions)


def _truncated_sum(group: WeightGroup, rank: int, compute: Compute) -> Truncated | None:
    """None when the sum is zero."""
    terms = [
        (*factors_on(compute.float64_device, contribution), contribution.effective_weight)
        for contribution in group.contributions
        if contribution.effective_weight != 0
    ]
    return truncate_sum(terms, fixed_rank(rank)) if terms else None


def _module(group: WeightGroup, best: Truncated | None, compute: Compute) -> LoraModule:
    if best is None:
        return group.zero(compute.dtype)
    compute.report_truncation(best.kept, best.total)
    return group.module(best.up, best.down, compute.dtype)
