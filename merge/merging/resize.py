"""Changing the rank of a LoRA, by the SVD of each module's factors where it has any."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch

from ..adapters.base import Adapter, Lora, LoraModule, Replacement, by_key, needs_model_message, with_block_weight
from ..adapters.combine import low_rank
from ..compute.context import CPU, Compute, attempt
from ..compute.devices import on_cpu, on_device
from ..compute.precision import full_precision
from ..errors import LoraError
from ..numerics.buffers import Arena
from ..numerics.dense_svd import truncate_dense_by_rule, truncation_bytes
from ..numerics.finite import is_finite
from ..numerics.rank_rules import RankRule, cumulative_rank, fixed_rank, frobenius_rank, ratio_rank
from ..numerics.sum_svd import truncate_sum
from ..numerics.truncated import Truncated
from ..provenance import metadata, recipe
from .key_resolver import resolver_for
from .merge_loop import names_for_recipe

# Method -> what its value means, for messages and tooltips.
METHODS: dict[str, str] = {
    "fixed": "every module gets the new rank",
    "sv_ratio": "keeps singular values above 1/value of the largest (value 1 or more; 2 to 20 is usual)",
    "sv_cumulative": "keeps as many singular values as make up this share of their sum (above 0, at most 1)",
    "sv_fro": "keeps as many as make up this share of the Frobenius norm (above 0, at most 1)",
}


@full_precision()
def resize(
    lora: Lora,
    rank: int,
    conv_rank: int = 0,
    method: str = "fixed",
    value: float = 0.9,
    compute: Compute = CPU,
    as_lora: bool = False,
) -> Lora:
    """The LoRA at another rank, with its strengths and block weights unchanged.

    ``fixed`` gives every module ``rank`` (larger kernels ``conv_rank``, or ``rank`` if that is 0). The other methods
    give each module the smallest rank that meets their criterion, at most ``rank``, as sd-scripts' resize_lora.py does
    since its PR 2194. A module whose own rank is lower keeps it; nothing is padded. Raises LoraError for unknown
    methods, values out of range, and modules that need the model's weight.

    LoHa, LoKr and full differences of weights become plain LoRA modules. Biases, norms and replaced parameters have no
    such form: they stay, or with ``as_lora``, for programs that load nothing else, are left out and noted.

    ``compute.report_truncation`` gets each module's squared norms, which the SVD has anyway; block weights don't count.
    """
    conv_rank = conv_rank or rank
    rules = {True: rank_rule(method, value, conv_rank), False: rank_rule(method, value, rank)}
    for module in lora.modules.values():
        if module.is_weight_dependent:
            raise LoraError(f"{lora.name}: {needs_model_message(module)}")
    source = lora
    lora = _without_others(lora) if as_lora else lora
    needs = [_bytes_needed(module) for module in lora.modules.values()]
    if compute.device.type != "cpu":
        compute.make_room(max(needs, default=0))
    arena, modules = Arena(), []
    for done, (module, needed) in enumerate(zip(lora.modules.values(), needs, strict=True), 1):
        rule = rules[module.is_convolution]
        modules.append(attempt(compute, f"module {module.name}", needed, partial(_resized, module, rule, arena)))
        compute.step(done, len(lora.modules))
    settings: dict[str, object] = {"rank": rank, "conv_rank": conv_rank, "method": method}
    if method != "fixed":
        settings["value"] = value
    settings["dtype"] = str(compute.dtype).removeprefix("torch.")
    settings |= {"as": "lora"} if as_lora else {}
    if source.source:  # a LoRA that was made has its family from its own recipe
        settings |= names_for_recipe(resolver_for([source]))
    return replace(
        lora,
        modules=by_key(modules),
        metadata=metadata.of_result(recipe.recipe_text("resize", settings, [source], strengths=False), [source]),
        source={},
    )


def _without_others(lora: Lora) -> Lora:
    """The LoRA with only what can become a plain LoRA module, and notes on the rest.

    Raises LoraError if nothing is left.
    """
    left_out = [module for module in lora.modules.values() if _has_no_rank(module)]
    if len(left_out) == len(lora.modules):
        raise LoraError(f"{lora.name} has only biases, norms and replaced parameters, which can't become a plain LoRA.")
    notes = []
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        notes.append(f"Biases, norms and replaced parameters can't be plain LoRA: {left_out[0].key}{more} left out.")
    if lora.extras:
        notes.append(f"Embeddings can't be plain LoRA: {next(iter(lora.extras))} and what belongs to it left out.")
    kept = by_key(module for module in lora.modules.values() if not _has_no_rank(module))
    return replace(lora, modules=kept, extras={}, notes=(*lora.notes, *notes))


def _has_no_rank(module: Adapter) -> bool:
    """Whether it is a replaced parameter, a bias or a norm."""
    return isinstance(module, Replacement) or len(module.weight_shape) == 1


def stored_bytes(lora: Lora) -> int:
    """The size of the LoRA's tensors in a file, without its header."""
    tensors = (tensor for module in lora.modules.values() for _, tensor in module.tensors())
    return sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors)


def _bytes_needed(module: Adapter) -> int:
    """About the most memory that a module takes on its device, besides its result: the factors in float64, or the dense
    delta and what its truncation needs."""
    rows, columns = module.weight_shape[0], math.prod(module.weight_shape[1:])
    if module.has_factors:
        return 24 * module.rank * (rows + columns)
    return 4 * rows * columns + truncation_bytes(rows, columns)


def rank_rule(method: str, value: float, most: int) -> RankRule:
    """The rule of a method, with its value and the largest rank. Raises LoraError for what it can't be."""
    if most < 1:
        raise LoraError(f"The new rank is {most}; it must be at least 1.")
    if method not in METHODS:
        raise LoraError(f"There is no resize method {method!r}. The methods are {', '.join(METHODS)}.")
    if method == "fixed":
        return fixed_rank(most)
    if method == "sv_ratio":
        if not value >= 1:
            raise LoraError(f"The value of sv_ratio is {value}; it must be 1 or more (2 to 20 is usual).")
        return ratio_rank(value, most)
    if not 0 < value <= 1:
        raise LoraError(f"The value of {method} is {value}; it must be above 0 and at most 1.")
    return (cumulative_rank if method == "sv_cumulative" else frobenius_rank)(value, most)


def _resized(module: Adapter, rule: RankRule, arena: Arena, compute: Compute) -> Adapter:
    if _has_no_rank(module):
        return module
    try:
        best = _best(module, rule, compute)
    except OverflowError:
        raise _too_large(module, torch.float32) from None
    rows, columns = module.weight_shape[0], math.prod(module.weight_shape[1:])
    up, down = (torch.zeros(rows, 1), torch.zeros(1, columns)) if best is None else (best.up, best.down)
    up, down = on_cpu(up, compute.dtype), on_cpu(down, compute.dtype)
    if not (is_finite(up) and is_finite(down)):
        raise _too_large(module, compute.dtype)
    reshape = module.reshape if isinstance(module, LoraModule) else None
    resized = low_rank(module.name, arena.copy(up), arena.copy(down), module.weight_shape, reshape)
    if best is not None:
        compute.report_truncation(best.kept, best.total)
    return with_block_weight(resized, module.block_weight)


def _best(module: Adapter, rule: RankRule, compute: Compute) -> Truncated | None:
    factors = module.factors()
    if factors is None:
        return truncate_dense_by_rule(on_device(module.dense(), compute.device), rule, compute.check)
    up, down = (on_device(factor, compute.float64_device) for factor in factors)
    return truncate_sum([(up, down, module.scale)], rule)


def _too_large(module: Adapter, dtype: torch.dtype) -> LoraError:
    return LoraError(
        f"Resizing module {module.name} gave values too large for {str(dtype).removeprefix('torch.')}. "
        "Choose float32 or bfloat16."
    )
