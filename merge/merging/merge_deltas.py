"""PM Merge LoRA SVD: merges LoRAs by their deltas, weight by weight, and truncates each result to a rank."""

from __future__ import annotations

from collections.abc import Sequence

from ..adapters.base import Adapter, Lora
from ..compute.context import CPU, Compute
from ..compute.precision import full_precision
from ..errors import LoraError
from ..methods.kernels import Reweight
from ..methods.registry import SVD_SUFFIX, Method, delta_method
from ..numerics.buffers import ReusableBuffer
from .delta_routes import DeltaMerger, forms_delta
from .key_resolver import ModelNames, resolver_for
from .matching import WeightGroup, group_by_weight
from .merge_loop import merge_groups, merged_lora, names_for_recipe
from .merge_vectors import merge_vectors
from .options import DEFAULTS, MergeOptions
from .settings import MergeSettings
from .strength_rules import StrengthRule, named
from .weight_rules import with_weights


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
    options: MergeOptions = DEFAULTS,
) -> Lora:
    """PM Merge LoRA SVD: the mode acts on the deltas, and the result is truncated to a rank by SVD.

    ``rank`` is for linear and 1x1 modules, ``conv_rank`` for larger kernels; 0 is the largest rank among the inputs of
    that module. Sums of low-rank LoRAs are exact before the truncation and form no dense delta. Raises LoraError as
    merge_factors does, and for negative ranks.
    """
    settings = MergeSettings(delta_method(mode), density, seed, options)
    for name, value in (("rank", rank), ("conv rank", conv_rank)):
        if value < 0:
            raise LoraError(f"The {name} is {value}; it must be 0 (as the inputs) or more.")
    resolver = resolver_for(loras, model)
    groups = group_by_weight(with_weights(loras, options.weights, compute), resolver)
    merger = DeltaMerger(settings, ReusableBuffer(max((group.rows * group.columns for group in groups), default=0)))
    rule = StrengthRule(options.strength_rule, is_sum=settings.method.is_sum and settings.keeps_all)

    def merge_matrices(group: WeightGroup, compute: Compute) -> Adapter:
        best = merger.merge(group, (conv_rank if group.is_convolution else rank) or group.rank, compute)
        if best is None:
            rule.factor(group, 0.0, compute)  # to note a result of zero
            return group.zero(compute.dtype)
        best = best.scaled(rule.factor(group, best.total, compute))
        compute.report_truncation(best.kept, best.total)
        return group.module(best.up, best.down, compute.dtype)

    def merge_vector(group: WeightGroup, compute: Compute) -> Adapter:
        return merge_vectors(group, settings, rule, merger.undefined, compute)

    modules = merge_groups(groups, merge_vector, merge_matrices, lambda group: forms_delta(group, settings), compute)
    for_recipe = {"mode": settings.method.name + SVD_SUFFIX, **settings.for_recipe(rule.applied)}
    for_recipe |= {"rank": rank, "conv_rank": conv_rank, **names_for_recipe(resolver)}
    notes = [note for note in (_undefined(settings.method, merger.undefined), rule.note()) if note]
    return merged_lora("merge_svd", for_recipe, loras, groups, modules, resolver, compute, notes)


def _undefined(method: Method, modules: Sequence[str]) -> str | None:
    """A sentence for the user about modules that the method isn't defined for."""
    if not modules or not isinstance(method.kernel, Reweight):
        return None
    return f"{method.name}{SVD_SUFFIX} gives the plain sum of {named(modules)}: {method.kernel.undefined}."
