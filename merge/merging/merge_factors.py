"""PM Merge LoRA: merges LoRAs by their factors, weight by weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..adapters.base import Adapter, Lora, LoraModule
from ..adapters.combine import low_rank, marked_finite, side_by_side
from ..compute.context import CPU, Compute
from ..compute.precision import full_precision
from ..errors import LoraError
from ..methods.blocked_matrix import Block, in_blocks
from ..methods.kernels import Elementwise
from ..methods.registry import factor_method
from ..numerics.gram import delta_gram
from .delta_routes import factored
from .delta_rows import factors_on
from .key_resolver import ModelNames, resolver_for
from .matching import WeightGroup, group_by_weight
from .merge_loop import merge_groups, merged_lora, names_for_recipe
from .merge_vectors import merge_vectors
from .options import DEFAULTS, MergeOptions
from .parallel_check import ParallelCheck
from .settings import MergeSettings
from .strength_rules import StrengthRule
from .weight_rules import with_weights


@full_precision()
def merge_factors(
    loras: Sequence[Lora],
    mode: str = "concat",
    density: float = 1.0,
    seed: int = 0,
    compute: Compute = CPU,
    model: ModelNames | None = None,
    options: MergeOptions = DEFAULTS,
) -> Lora:
    """PM Merge LoRA: the mode acts on the factors, as PEFT's add_weighted_adapter does; ``concat`` is exact.

    With the effective weight w = strength * alpha / rank, each up is scaled by sqrt|w| and each down by
    sign(w) sqrt|w|, so that the strength counts once and keeps its sign. Adapters without factors (full differences)
    are factored by SVD for concat and refused by the other modes. Raises LoraError for unknown modes, densities outside
    0 to 1 and LoRAs with different shapes of one weight.
    """
    method = factor_method(mode)
    settings = MergeSettings(method, density, seed, options)
    resolver = resolver_for(loras, model)
    groups = group_by_weight(with_weights(loras, options.weights, compute), resolver)
    kernel = method.kernel
    if kernel is not None:
        require_factors(groups, mode)
    parallel = ParallelCheck(loras, groups) if kernel is not None and method.is_sum else None
    rule = StrengthRule(options.strength_rule, is_sum=kernel is None)

    def merge_matrices(group: WeightGroup, compute: Compute) -> Adapter:
        if kernel is None:
            return _concatenated(group, rule, compute)
        assert isinstance(kernel, Elementwise)  # others have no form on factors
        return _merged_factors(group, kernel, settings, rule, parallel, compute)

    def merge_vector(group: WeightGroup, compute: Compute) -> Adapter:
        return merge_vectors(group, settings, rule, [], compute)  # all modes on factors are defined everywhere

    modules = merge_groups(groups, merge_vector, merge_matrices, lambda group: not group.has_all_factors, compute)
    notes = [note for note in (parallel and parallel.note(mode), rule.note()) if note]
    for_recipe = {"mode": mode, **settings.for_recipe(rule.applied), **names_for_recipe(resolver)}
    return merged_lora("merge", for_recipe, loras, groups, modules, resolver, compute, notes)


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


def _concatenated(group: WeightGroup, rule: StrengthRule, compute: Compute) -> LoraModule:
    terms: list[tuple[Adapter, float]] = []
    factor = rule.factor(group, None, compute)
    for contribution in group.contributions:
        if contribution.effective_weight == 0:
            continue
        if contribution.adapter.has_factors:
            terms.append((contribution.adapter, factor * contribution.effective_weight))
            continue
        full = _factored(group, contribution.adapter, compute)
        if full is not None:
            terms.append((full, factor * contribution.strength))
    if not terms:
        return group.zero(compute.dtype)
    module = side_by_side(group.name, terms, group.weight_shape, group.reshape, compute.dtype)
    if not (module.up.is_finite and module.down.is_finite):  # checked here, so that the error comes from the merge
        group.require_finite(compute.dtype, module.up.materialize(), module.down.materialize())
        module = marked_finite(module)
    return module


def _factored(group: WeightGroup, adapter: Adapter, compute: Compute) -> LoraModule | None:
    """An adapter without factors as a LoRA of full rank; None when its delta is zero."""
    exact = factored(group, adapter, compute)
    return None if exact is None else low_rank(group.name, exact.up.cpu(), exact.down.cpu(), group.weight_shape)


def _merged_factors(
    group: WeightGroup,
    kernel: Elementwise,
    settings: MergeSettings,
    rule: StrengthRule,
    parallel: ParallelCheck | None,
    compute: Compute,
) -> LoraModule:
    factors = [factors_on(compute.device, contribution) for contribution in group.contributions]
    ups, downs = [up.float() for up, _ in factors], [down.float() for _, down in factors]
    on_up = [math.sqrt(abs(contribution.effective_weight)) for contribution in group.contributions]
    on_down = [
        math.copysign(root, contribution.effective_weight)
        for root, contribution in zip(on_up, group.contributions, strict=True)
    ]
    up = kernel.consensus(_sparsified(group, kernel, settings, ups, "up"), on_up)
    compute.check()
    down = kernel.consensus(_sparsified(group, kernel, settings, downs, "down"), on_down)
    compute.check()
    if parallel is not None:
        parallel.add(group, ups, downs, up, down)
    if rule.scales:
        root = math.sqrt(rule.factor(group, _squared_norm(up, down, compute), compute))
        up, down = up * root, down * root
    if not up.any() or not down.any():
        return group.zero(compute.dtype)
    return group.module(up, down, compute.dtype)


def _squared_norm(up: Tensor, down: Tensor, compute: Compute) -> float:
    """|up @ down|^2 in float64."""
    place = compute.float64_device
    return float(delta_gram([up.to(place).double()], [down.to(place).double()], [1.0]))


def _sparsified(
    group: WeightGroup, kernel: Elementwise, settings: MergeSettings, factors: Sequence[Tensor], side: str
) -> list[Tensor]:
    """The factors of one side, each sparsified at its LoRA's own rank, then padded with zeros to the largest."""
    axis = 1 if side == "up" else 0
    rank = max(factor.shape[axis] for factor in factors)
    sparse = []
    for stream, factor in zip(settings.streams(group, side), factors, strict=True):
        kept = kernel.sparsify(in_blocks(factor), settings.of_method, stream)(Block(factor))
        missing = rank - factor.shape[axis]
        padding = (0, missing) if side == "up" else (0, 0, 0, missing)
        sparse.append(torch.nn.functional.pad(kept, padding) if missing else kept)
    return sparse
