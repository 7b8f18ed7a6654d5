"""Merging biases and norms, which have no rank: the mode acts on their deltas."""

from __future__ import annotations

from torch import Tensor

from ..adapters.base import Difference
from ..compute.context import Compute
from ..compute.devices import on_cpu, on_device
from ..methods.blocked_matrix import Block, in_blocks
from ..methods.consensus import weighted_sum
from ..methods.kernels import Blockwise, Elementwise, Reweight
from .gram import reweighted, without_zeros
from .matching import WeightGroup
from .settings import MergeSettings
from .strength_rules import StrengthRule


def merge_vectors(
    group: WeightGroup, settings: MergeSettings, rule: StrengthRule, undefined: list[str], compute: Compute
) -> Difference:
    """Elementwise and blockwise modes take a vector as a matrix of one row; concatenation and modes in the core, which
    need a matrix, become the plain sum. If the method isn't defined for it, its name is added to ``undefined``."""
    merged = _merged(group, settings, undefined, compute)
    if rule.scales:
        merged = merged * rule.factor(group, float(merged.double().square().sum()), compute)
    value = on_cpu(merged, compute.dtype)
    group.require_finite(compute.dtype, value)
    return Difference.of(group.name, value, group.contributions[0].adapter.parameter)


def _merged(group: WeightGroup, settings: MergeSettings, undefined: list[str], compute: Compute) -> Tensor:
    kernel = settings.method.kernel
    if isinstance(kernel, Reweight):
        changed, defined = reweighted(group, kernel, settings, compute)
        group = changed or group
        if not defined:
            undefined.append(group.name)
    elif isinstance(kernel, Blockwise):
        group = without_zeros(group, compute)[0] or group
    deltas = [on_device(one.adapter.dense(), compute.device) for one in group.contributions]
    strengths = [one.strength for one in group.contributions]
    if not isinstance(kernel, Elementwise | Blockwise):
        return weighted_sum(deltas, strengths)
    matrices = [in_blocks(delta) for delta in deltas]
    merge_blocks = kernel.fit(matrices, strengths, settings.of_method, settings.streams(group, "delta"))
    return merge_blocks([Block(delta) for delta in deltas])
