"""Full differences and replaced parameters: tensors that stand for themselves.

`.diff` and `.w_norm` are added to the weight of their module, `.diff_b` and `.b_norm` to its bias; `.set_weight` takes
the weight's place (comfy/lora.py, load_lora).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..adapters.base import BIAS, WEIGHT, Adapter, Difference, Replacement
from ..errors import DAMAGED, LoraError
from .checks import ALPHA, require_float, shape_text

NAME = "full difference"
PARAMETERS = {".diff": WEIGHT, ".w_norm": WEIGHT, ".diff_b": BIAS, ".b_norm": BIAS}
SET = ".set_weight"
SUFFIXES = (*PARAMETERS, SET)


def read(name: str, tensors: Mapping[str, Tensor], source: str) -> list[Adapter]:
    """The changes that the tensors of one prefix make, one each. Raises LoraError for numbers that are no floats."""
    adapters: list[Adapter] = []
    for suffix, tensor in tensors.items():
        if suffix == ALPHA:  # ComfyUI does not look at it here
            continue
        require_float(tensor, f"{source}: its {suffix[1:]}")
        if 0 in tensor.shape or (tensor.ndim == 0 and suffix != SET):
            raise LoraError(f"{source}: its {suffix[1:]} {shape_text(tensor)} is empty. {DAMAGED}")
        if suffix == SET:
            adapters.append(Replacement(name, tensor))
        else:
            adapters.append(Difference(name, tensor, PARAMETERS[suffix]))
    return adapters
