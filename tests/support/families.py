"""A state dict of one module in each adapter family, for tests that must hold for all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = dict[str, Tensor]
NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
CONVOLUTION = "lora_unet_mid_block_resnets_0_conv1"
# Large enough that a dense delta of it is truncated by subspace iteration.
OUT, IN = 84, 72
KERNEL = (24, 10, 3, 3)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def named(name: str, alpha: float | None = None, **tensors: Tensor) -> State:
    """The tensors under their keys; a dot in an ending is written as two underscores."""
    found = {f"{name}.{ending.replace('__', '.')}": tensor for ending, tensor in tensors.items()}
    return found if alpha is None else found | {f"{name}.alpha": torch.tensor(alpha)}


def lora(seed: int) -> State:
    factors = {"lora_up__weight": normal(seed, OUT, 4), "lora_down__weight": normal(seed + 1, 4, IN)}
    return named(NAME, 3.0, **factors)


def lora_3x3(seed: int) -> State:
    up, down = normal(seed, KERNEL[0], 4, 1, 1), normal(seed + 1, 4, *KERNEL[1:])
    return named(CONVOLUTION, 2.0, lora_up__weight=up, lora_down__weight=down)


def high_rank_lora(seed: int) -> State:
    """Of a rank at which three of them are summed by forming the product."""
    return named(NAME, 9.0, lora_up__weight=normal(seed, OUT, 40), lora_down__weight=normal(seed + 1, 40, IN))


def cancelling_lora(seed: int) -> State:
    """Factors whose terms cancel, so that they are balanced before a float32 product is formed of them."""
    up, down = normal(seed, OUT, 3), normal(seed + 1, 3, IN)
    up = torch.cat([up, 100 * up + 0.01 * normal(seed + 2, OUT, 3)], 1)
    return named(NAME, 6.0, lora_up__weight=up, lora_down__weight=torch.cat([100 * down, -down]))


def tucker_lora(seed: int) -> State:
    factors = {"lora_up__weight": normal(seed, KERNEL[0], 3, 1, 1), "lora_mid__weight": normal(seed + 1, 3, 4, 3, 3)}
    return named(CONVOLUTION, 2.0, **factors, lora_down__weight=normal(seed + 2, 4, KERNEL[1], 1, 1))


def loha(seed: int, rank: int = 3) -> State:
    first = {"hada_w1_a": normal(seed, OUT, rank), "hada_w1_b": normal(seed + 1, rank, IN)}
    second = {"hada_w2_a": normal(seed + 2, OUT, rank), "hada_w2_b": normal(seed + 3, rank, IN)}
    return named(NAME, 2.0, **first, **second)


def dense_loha(seed: int) -> State:
    """Of a rank so high that its delta is used instead of factors."""
    return loha(seed, rank=9)


def tucker_loha(seed: int) -> State:
    rank, (out, inputs, *kernel) = 2, KERNEL
    first = {"hada_w1_a": normal(seed, rank, out), "hada_w1_b": normal(seed + 1, rank, inputs)}
    second = {"hada_w2_a": normal(seed + 2, rank, out), "hada_w2_b": normal(seed + 3, rank, inputs)}
    cores = {"hada_t1": normal(seed + 4, rank, rank, *kernel), "hada_t2": normal(seed + 5, rank, rank, *kernel)}
    return named(CONVOLUTION, 1.0, **first, **second, **cores)


def lokr(seed: int) -> State:
    second = {"lokr_w2_a": normal(seed + 1, OUT // 4, 2), "lokr_w2_b": normal(seed + 2, 2, IN // 3)}
    return named(NAME, 1.0, lokr_w1=normal(seed, 4, 3), **second)


def tucker_lokr(seed: int) -> State:
    out, inputs, *kernel = KERNEL
    second = {"lokr_w2_a": normal(seed + 1, 2, out // 4), "lokr_w2_b": normal(seed + 2, 2, inputs // 2)}
    return named(CONVOLUTION, 1.0, lokr_w1=normal(seed, 4, 2), **second, lokr_t2=normal(seed + 3, 2, 2, *kernel))


def whole_lokr(seed: int) -> State:
    """Without a decomposed matrix: no factors of a useful rank, and no alpha that counts."""
    return named(NAME, lokr_w1=normal(seed, 4, 3), lokr_w2=normal(seed + 1, OUT // 4, IN // 3))


def difference(seed: int) -> State:
    return named(NAME, diff=normal(seed, OUT, IN))


def bias(seed: int) -> State:
    return named(NAME, diff_b=normal(seed, OUT))


def norm(seed: int) -> State:
    return named("lora_unet_mid_block_attentions_0_norm", w_norm=normal(seed, OUT))


WITH_FACTORS: dict[str, Callable[[int], State]] = {
    "LoRA": lora,
    "LoRA 3x3": lora_3x3,
    "high-rank LoRA": high_rank_lora,
    "cancelling LoRA": cancelling_lora,
    "Tucker LoRA": tucker_lora,
    "LoHa": loha,
    "Tucker LoHa": tucker_loha,
    "LoKr": lokr,
    "Tucker LoKr": tucker_lokr,
}
DENSE: dict[str, Callable[[int], State]] = {
    "dense LoHa": dense_loha,
    "whole LoKr": whole_lokr,
    "full difference": difference,
}
VECTORS: dict[str, Callable[[int], State]] = {"bias": bias, "norm": norm}
FAMILIES = WITH_FACTORS | DENSE | VECTORS


# Families whose strength can't go into an alpha: it multiplies the numbers themselves.
MULTIPLIED = ("whole LoKr", "full difference", "bias", "norm")


def as_dtype(state: State, dtype: torch.dtype) -> State:
    """The same with its numbers in this type, alphas aside."""
    return {key: tensor if key.endswith(".alpha") else tensor.to(dtype) for key, tensor in state.items()}


def scaled(state: State, factor: float, dtype: torch.dtype) -> State:
    """The same with numbers so many times as large, alphas aside."""
    return as_dtype({key: t if key.endswith(".alpha") else t * factor for key, t in state.items()}, dtype)


# In float16, up to about 10000: at a strength of 100 they overflow.
OVERFLOWING = {family: scaled(FAMILIES[family](1), 3000, torch.float16) for family in MULTIPLIED}
