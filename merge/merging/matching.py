"""Groups the adapters of several LoRAs by the weight that they change.

1. The key resolver gives each module name its target: a weight of the model, and which of its rows.
2. Adapters with the same weight are collected, whatever their names. Each is a contribution of its LoRA.
3. If their rows differ, fused_rows.py brings them to the same rows.

An example with attention of Flux. LoRA a has diffusers' names, LoRA b the fused weight under kohya's name:

    LoRA  module                                        weight                              rows
    a     transformer.transformer_blocks.0.attn.to_q    model:double_blocks_0_img_attn_qkv  0 to 1/3
    a     transformer.transformer_blocks.0.attn.to_k    model:double_blocks_0_img_attn_qkv  1/3 to 2/3
    a     transformer.transformer_blocks.0.attn.to_v    model:double_blocks_0_img_attn_qkv  2/3 to 1
    b     lora_unet_double_blocks_0_img_attn_qkv        model:double_blocks_0_img_attn_qkv  all

All four change one weight. a is the first LoRA, so the result has a's modules: b's adapter is sliced, and there are
three groups, each with a contribution of a and a third of b's. If b comes first, the result has b's module: a's three
adapters are padded with zeros to all rows and added up, and there is one group with a contribution of each LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adapters.base import WEIGHT, Adapter, Lora, LoraModule, Replacement, needs_model_message
from ..adapters.combine import low_rank, reshape_of
from ..compute.devices import on_cpu
from ..errors import LoraError
from ..names import ALL_ROWS, RowRange, Target
from ..numerics.finite import is_finite
from .fused_rows import Contribution, align_rows, require_same_weight
from .key_resolver import KeyResolver


@dataclass(frozen=True, eq=False)
class WeightGroup:
    """A parameter of the model (or some rows of it) and the contributions to it, in input order."""

    weight: str  # canonical name of the parameter, with the rows if it isn't all of them
    contributions: tuple[Contribution, ...]

    @property
    def name(self) -> str:
        """The module's name in the result: the first LoRA's."""
        return self.contributions[0].adapter.name

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The parameter's shape; with kernel dimensions if any of the LoRAs has them."""
        return max((contribution.adapter.weight_shape for contribution in self.contributions), key=len)

    @property
    def rows(self) -> int:
        return self.weight_shape[0]

    @property
    def columns(self) -> int:
        return math.prod(self.weight_shape[1:])

    @property
    def is_vector(self) -> bool:
        """A bias or a norm, which has no rank."""
        return len(self.weight_shape) == 1

    @property
    def is_convolution(self) -> bool:
        return math.prod(self.weight_shape[2:]) > 1

    @property
    def has_all_factors(self) -> bool:
        """Whether all contributions are low-rank products."""
        return all(contribution.adapter.has_factors for contribution in self.contributions)

    @property
    def is_replacement(self) -> bool:
        return isinstance(self.contributions[0].adapter, Replacement)

    @property
    def rank(self) -> int:
        """The largest rank among the LoRAs."""
        return min(max(contribution.adapter.rank for contribution in self.contributions), self.rows, self.columns)

    def zero(self, dtype: torch.dtype) -> LoraModule:
        """The module that adds nothing: rank 1, since ComfyUI's loader has no rank 0."""
        return self.module(torch.zeros(self.rows, 1), torch.zeros(1, self.columns), dtype)

    def module(self, up: Tensor, down: Tensor, dtype: torch.dtype) -> LoraModule:
        """The module of the result, from its factors as matrices: up (rows, rank), down (rank, columns)."""
        up, down = on_cpu(up, dtype), on_cpu(down, dtype)
        self.require_finite(dtype, up, down)
        return low_rank(self.name, up, down, self.weight_shape, self.reshape)

    @property
    def reshape(self) -> tuple[int, ...] | None:
        """The shape that the model's weight is padded to first, if one of the LoRAs asks for it."""
        return reshape_of(*(contribution.adapter for contribution in self.contributions))

    def require_finite(self, dtype: torch.dtype, *tensors: Tensor) -> None:
        if not all(map(is_finite, tensors)):
            raise self.too_large_for(dtype)

    def too_large_for(self, dtype: torch.dtype) -> LoraError:
        return LoraError(
            f"Merging module {self.name} gave values too large for {str(dtype).removeprefix('torch.')}. "
            "Lower the strengths or choose float32."
        )


def group_by_weight(loras: Sequence[Lora], resolver: KeyResolver) -> list[WeightGroup]:
    """The parameters that the LoRAs change at a strength other than 0, in order of appearance.

    Raises LoraError, before any computation, if shapes disagree, if one LoRA replaces what another changes, and for
    modules that need the model's weight.
    """
    groups = []
    for parameter, contributions in _by_parameter(loras, resolver).items():
        for rows, aligned in align_rows(contributions, resolver.naming):
            for contribution in aligned[1:]:
                require_same_weight(aligned[0], contribution)
            groups.append(WeightGroup(_with_rows(parameter, rows), tuple(aligned)))
    return groups


def _by_parameter(loras: Sequence[Lora], resolver: KeyResolver) -> dict[str, list[Contribution]]:
    """The contributions to each parameter, by its canonical name."""
    found: dict[str, list[Contribution]] = {}
    for input_index, lora in enumerate(loras, 1):
        for adapter in lora.modules.values():
            strength = lora.strength_of(adapter)
            if not math.isfinite(strength):
                raise LoraError(f"{lora.name}: the strength of module {adapter.name} is {strength}; choose a number.")
            if strength == 0:
                continue
            if adapter.is_weight_dependent:
                raise LoraError(f"{lora.name}: {needs_model_message(adapter)}")
            target = resolver.resolve(adapter.name)
            contribution = Contribution(adapter, target, strength, input_index, lora.name)
            found.setdefault(_parameter_name(target, adapter), []).append(contribution)
    return found


def _parameter_name(target: Target, adapter: Adapter) -> str:
    return target.weight if adapter.parameter == WEIGHT else f"{target.weight}_{adapter.parameter}"


def _with_rows(parameter: str, rows: RowRange) -> str:
    return parameter if rows == ALL_ROWS else f"{parameter}[{rows.start}:{rows.stop}]"
