"""PEFT's DoRA (arXiv 2402.09353): W' = m * V / |V|, with V = W + scale * up @ down and |V| the norm of each row.

The magnitudes m, one per row, are in `lora_magnitude_vector`. A convolution's row is everything that one output channel
sees (peft/tuners/lora/dora.py). ComfyUI's own loader reads lora_A and lora_B and drops the magnitudes. LyCORIS's
`dora_scale` is a different formula (weight_dependent.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..adapters.base import LoraModule, WeightDependentAdapter
from ..adapters.combine import unscaled
from ..errors import DAMAGED, LoraError
from ..lazy import LazyTensor
from . import lora
from .checks import ALPHA, require_float, shape_text
from .module_tensors import ModuleTensors

NAME = "DoRA of PEFT"
MAGNITUDE = ".lora_magnitude_vector"
SUFFIXES = (MAGNITUDE,)
UP, DOWN = ".lora_B.weight", ".lora_A.weight"


@dataclass(frozen=True, eq=False)
class PeftDora(WeightDependentAdapter):
    """``direction`` is the LoRA that is added before each row is rescaled to its ``magnitude`` (out,)."""

    family: str = field(default=NAME, init=False)
    name: str
    direction: LoraModule
    magnitude: Tensor
    block_weight: float = 1.0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.direction.weight_shape

    def in_peft(self) -> PeftDora:
        return replace(self, direction=unscaled(self.direction))

    def change_of(self, weight: Tensor) -> Tensor:
        """``change`` for a weight of the connected model; block weight not counted."""
        return change(weight, *self.direction.factors(), self.direction.scale, self.magnitude)

    def tensors(self) -> Iterator[tuple[str, LazyTensor]]:
        self.require_full_strength()
        yield UP, self.direction.up
        yield DOWN, self.direction.down
        if self.direction.scale != 1:
            yield ALPHA, LazyTensor.of(torch.tensor(self.direction.alpha, dtype=torch.float32))
        yield MAGNITUDE, LazyTensor.of(self.magnitude)


def change(weight: Tensor, up: Tensor, down: Tensor, scale: float, magnitude: Tensor) -> Tensor:
    """W' - W in float32 and the shape and on the device of the weight W, (out, in[, kh, kw]).

    ``up`` (out, r) and ``down`` (r, in * kh * kw) are matrices, ``magnitude`` is (out,).
    """
    up, down, magnitude = (tensor.to(weight.device, torch.float32) for tensor in (up, down, magnitude))
    rows = weight.flatten(1).float()
    low_rank = (up * scale) @ down
    norms = torch.linalg.vector_norm(rows + low_rank, dim=1, keepdim=True)
    factors = torch.where(norms == 0, torch.ones_like(norms), magnitude[:, None] / norms)
    # computing W' - W directly would cancel
    return ((factors - 1) * rows + factors * low_rank).reshape(weight.shape)


def read(module: ModuleTensors) -> list[PeftDora]:
    """The adapter of a module, in memory. Raises LoraError for a magnitude that isn't one number per row."""
    source, magnitude = module.source, module.values[MAGNITUDE]
    require_float(magnitude, f"{source}: its lora_magnitude_vector")
    found = lora.read(module.in_memory().only([suffix for suffix in module.values if suffix != MAGNITUDE]))
    if len(found) != 1:
        raise LoraError(f"{source} has lora_magnitude_vector without the one LoRA that it belongs to. {DAMAGED}")
    (direction,) = found
    rows = direction.weight_shape[0]
    if magnitude.numel() != rows or rows not in magnitude.shape:
        raise LoraError(
            f"{source}: its lora_magnitude_vector {shape_text(magnitude)} isn't one number for each of its {rows} "
            f"rows. {DAMAGED}"
        )
    return [PeftDora(module.name, direction, magnitude.flatten())]
