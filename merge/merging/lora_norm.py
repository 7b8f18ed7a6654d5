"""How strong a whole LoRA is."""

from __future__ import annotations

import math

from ..adapters.base import Adapter, Lora, Replacement
from ..compute.context import CPU, Compute
from ..compute.devices import in_float64, on_device
from ..numerics.blocking import row_blocks
from ..numerics.gram import term_gram
from .delta_rows import delta_rows


def lora_norm(lora: Lora, compute: Compute = CPU) -> float:
    """sqrt(sum of |D|^2) over all modules of a LoRA at strength 1, block weights included; in float64.

    Modules that replace a parameter have no delta and don't count. Raises LoraError for modules whose delta depends on
    the model's weights.
    """
    total = 0.0
    for module in lora.modules.values():
        compute.check()
        if not isinstance(module, Replacement):
            total += module.block_weight**2 * _squared_norm(module, compute)
    return math.sqrt(total)


def _squared_norm(module: Adapter, compute: Compute) -> float:
    """|D|^2 of one module, not counting its block weight."""
    if module.has_factors:
        factors = module.factors()
        assert factors is not None
        up, down = (on_device(factor, compute.float64_device) for factor in factors)
        return float(term_gram([(up, down, module.scale)]))
    rows, shape = delta_rows(module, compute.device), module.weight_shape
    blocks = row_blocks(shape[0], math.prod(shape[1:]), compute.device)
    return sum((float(in_float64(rows(start, stop)).square().sum()) for start, stop in blocks), 0.0)
