"""Full differences and replaced parameters, stored without factors.

`.diff` and `.w_norm` are added to the module's weight, `.diff_b` and `.b_norm` to its bias; `.set_weight` replaces the
weight (comfy/lora.py, load_lora).
"""

from __future__ import annotations

from ..adapters.base import BIAS, WEIGHT, Adapter, Difference, Replacement
from ..errors import DAMAGED, LoraError
from ..lazy import LazyTensor
from .checks import ALPHA, require_float, shape_text
from .module_tensors import ModuleTensors

NAME = "full difference"
PARAMETERS = {".diff": WEIGHT, ".w_norm": WEIGHT, ".diff_b": BIAS, ".b_norm": BIAS}
SET = ".set_weight"
SUFFIXES = (*PARAMETERS, SET)


def read(module: ModuleTensors) -> list[Adapter]:
    """One adapter per tensor. Raises LoraError for tensors that aren't floating point or are empty.

    Matrices and kernels stay in the file. Vectors are small, and replaced weights are compared when merged: both are
    kept in memory.
    """
    adapters: list[Adapter] = []
    for suffix, tensor in module.values.items():
        if suffix == ALPHA:  # ComfyUI ignores it here
            continue
        require_float(tensor, f"{module.source}: its {suffix[1:]}")
        if 0 in tensor.shape or (tensor.ndim == 0 and suffix != SET):
            raise LoraError(f"{module.source}: its {suffix[1:]} {shape_text(tensor)} is empty. {DAMAGED}")
        if suffix == SET:
            adapters.append(Replacement(module.name, tensor))
        else:
            value = module.lazy[suffix] if tensor.ndim > 1 else LazyTensor.of(tensor)
            adapters.append(Difference(module.name, value, PARAMETERS[suffix]))
    return adapters
