"""PM Merge LoRA: merges LoRAs by their factors, weight by weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapters.base import Adapter, Lora, LoraModule
from ..adapters.combine import low_rank, marked_finite, side_by_side
from ..compute.context import CPU, Compute
from ..compute.devices import on_device
from ..compute.precision import full_precision
from ..errors import LoraError
from ..methods.consensus import Consensus, weighted_sum
from ..methods.registry import factor_method
from ..numerics.dense_svd import truncate_dense_by_rule
from ..numerics.rank_rules import fixed_rank
from .key_resolver import ModelNames, resolver_for
from .matching import WeightGroup, group_by_weight
from .merge_loop import MergeSettings, factors_on, merge_groups, merged_lora, names_for_recipe
from .parallel_check import ParallelCheck


@full_precision()
def merge_factors(
    loras: Sequence[Lora],
    mode: str = "concat",
    density: float = 1.0,
    seed: int = 0,
    compute: Compute = CPU,
    model: ModelNames | None = None,
) -> Lora:
    """PM Merge LoRA: the mode acts on the factors, as PEFT's add_weighted_adapter does; ``concat`` is exact.

    With the effective weight w = strength * alpha / rank, each up is scaled by sqrt|w| and each down by
    sign(w) sqrt|w|, so that the strength counts once and keeps its sign. Adapters without factors (full differences)
    are factored by SVD for concat and refused by the other modes. Raises LoraError for unknown modes, densities outside
    0 to 1 and LoRAs with different shapes of one weight.
    """
    method = factor_method(mode)
    settings = MergeSettings(method, density, seed)
    resolver = resolver_for(loras, model)
    groups = group_by_weight(loras, resolver)
    if method.consensus is not None:
        require_factors(groups, mode)
    parallel = ParallelCheck(loras, groups) if method.consensus is weighted_sum else None

    def merge_matrices(group: WeightGroup, compute: Compute) -> Adapter:
        if method.consensus is None:
            return _concatenated(group, compute)
        return _merged_factors(group, settings, method.consensus, parallel, compute)

    modules = merge_groups(groups, settings, merge_matrices, _lacks_factors, compute)
    note = parallel.note(mode) if parallel is not None else None
    for_recipe = {"mode": mode, **settings.for_recipe(), **names_for_recipe(resolver)}
    return merged_lora("merge", for_recipe, loras, groups, modules, resolver, compute, [note] if note else [])


def require_factors(groups: Sequence[WeightGroup], mode: str) -> None:
    """Raise LoraError if a module has no factors for a mode that acts on them."""
    for group in groups:
        for contribution in group.contributions:
            adapter = contribution.adapter
            if not (group.is_vector or group.is_replacement or adapter.has_factors):
                raise LoraError(
                    f"{contribution.lora}: module {adapter.name} ({adapter.family}) has no low-rank factors for the "
                    f"mode {mode}. Use PM Merge LoRA SVD with {mode}_svd, or the mode concat."
                )


def _lacks_factors(group: WeightGroup) -> bool:
    return not all(contribution.adapter.has_factors for contribution in group.contributions)


def _concatenated(group: WeightGroup, compute: Compute) -> LoraModule:
    terms: list[tuple[Adapter, float]] = []
    for contribution in group.contributions:
        if contribution.effective_weight == 0:
            continue
        if contribution.adapter.has_factors:
            terms.append((contribution.adapter, contribution.effective_weight))
            continue
        factored = _factored(group, contribution.adapter, compute)
        if factored is not None:
            terms.append((factored, contribution.strength))
    if not terms:
        return group.zero(compute.dtype)
    module = side_by_side(group.name, terms, group.weight_shape, group.reshape, compute.dtype)
    if not (module.up.is_finite and module.down.is_finite):  # checked here, so that the error comes from the merge
        group.require_finite(compute.dtype, module.up.materialize(), module.down.materialize())
        module = marked_finite(module)
    return module


def _factored(group: WeightGroup, adapter: Adapter, compute: Compute) -> LoraModule | None:
    """An adapter without factors as a LoRA of full rank; None when its delta is zero."""
    dense = on_device(adapter.dense(), compute.device)
    exact = truncate_dense_by_rule(dense, fixed_rank(min(group.rows, group.columns)), compute.check)
    return None if exact is None else low_rank(group.name, exact.up.cpu(), exact.down.cpu(), group.weight_shape)


def _merged_factors(
    group: WeightGroup, settings: MergeSettings, consensus: Consensus, parallel: ParallelCheck | None, compute: Compute
) -> LoraModule:
    factors = [factors_on(compute.device, contribution) for contribution in group.contributions]
    ups, downs = [up.float() for up, _ in factors], [down.float() for _, down in factors]
    on_up = [math.sqrt(abs(contribution.effective_weight)) for contribution in group.contributions]
    on_down = [
        math.copysign(root, contribution.effective_weight)
        for root, contribution in zip(on_up, group.contributions, strict=True)
    ]
    up = consensus(_sparsified(group, settings, ups, "up"), on_up)
    compute.check()
    down = consensus(_sparsified(group, settings, downs, "down"), on_down)
    compute.check()
    if parallel is not None:
        parallel.add(group, ups, downs, up, down)
    if not up.any() or not down.any():
        return group.zero(compute.dtype)
    return group.module(up, down, compute.dtype)


def _sparsified(group: WeightGroup, settings: MergeSettings, factors: Sequence[Tensor], side: str) -> list[Tensor]:
    """The factors of one side, each sparsified at its LoRA's own rank, then padded with zeros to the largest."""
    axis = 1 if side == "up" else 0
    rank = max(factor.shape[axis] for factor in factors)
    sparse = []
    for contribution, factor in zip(group.contributions, factors, strict=True):
        kept = settings.sparsified(factor, group.weight, contribution.input_index, side)
        missing = rank - factor.shape[axis]
        padding = (0, missing) if side == "up" else (0, 0, 0, missing)
        sparse.append(torch.nn.functional.pad(kept, padding) if missing else kept)
    return sparse
