"""Stacking low-rank products into one."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.numerics import stacking
from lora_pack.merge.numerics.stacking import concatenate, stack
from lora_pack.tests.support import oracle


def test_stacked_factors_multiply_to_the_sum():
    generator = torch.Generator().manual_seed(0)
    terms = [
        (torch.randn(7, r, generator=generator), torch.randn(r, 5, generator=generator), weight)
        for r, weight in ((2, 1.5), (3, -0.25), (1, 0.0), (2, 1e-8))
    ]
    up, down = stack(terms, torch.float64)
    assert up.shape == (7, 8) and down.shape == (8, 5) and up.dtype == torch.float64
    expected = sum(weight * (a.double().numpy() @ b.double().numpy()) for a, b, weight in terms)
    assert oracle.distance((up @ down).numpy(), expected) < 1e-14


def test_stack_splits_the_weight_evenly_and_puts_the_sign_on_down():
    up, down = stack([(torch.tensor([[2.0]]), torch.tensor([[3.0]]), -4.0)], torch.float32)
    assert (up.tolist(), down.tolist()) == ([[4.0]], [[-6.0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scaling_in_chunks_gives_the_same_bits_as_at_once(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    terms = [(torch.randn(70, r, generator=generator), torch.randn(r, 50, generator=generator), 0.3) for r in (4, 9)]
    expected = stack(terms, dtype)
    for elements in (1, 7, 100):
        monkeypatch.setattr(stacking, "SERIAL_ELEMENTS", elements)
        assert all(torch.equal(a, b) for a, b in zip(stack(terms, dtype), expected, strict=True))


def test_concatenate_is_torch_cat_in_another_precision():
    parts = [torch.randn(3, 2).half(), torch.randn(3, 5)]
    expected = torch.cat([part.double() for part in parts], 1)
    assert torch.equal(concatenate(parts, 1, torch.float64), expected)
