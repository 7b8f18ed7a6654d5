"""Blocks of rows, and norms summed over them."""

from __future__ import annotations

import pytest
import torch
from lora_pack.merge.numerics import blocking
from lora_pack.merge.numerics.blocking import row_blocks, squared_norm


@pytest.mark.parametrize("elements", [1, 7, 64, 1000])
@pytest.mark.parametrize("rows, columns", [(1, 1), (10, 7), (33, 5), (3, 500), (64, 1)])
def test_row_blocks_cover_every_row_once_and_keep_to_their_size(
    rows: int, columns: int, elements: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocking, "BLOCK_ELEMENTS", elements)
    blocks = list(row_blocks(rows, columns))
    assert [row for start, stop in blocks for row in range(start, stop)] == list(range(rows))
    assert all((stop - start) * columns <= elements or stop - start == 1 for start, stop in blocks)
    assert all(start < stop for start, stop in blocks)
    assert list(row_blocks(rows, columns)) == blocks


@pytest.mark.parametrize("elements", [1, 50, 10_000])
def test_the_squared_norm_is_summed_over_all_blocks(elements: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocking, "BLOCK_ELEMENTS", elements)
    matrix = torch.randn(33, 12, generator=torch.Generator().manual_seed(1)) * 1e25
    assert squared_norm(matrix) == pytest.approx(float(matrix.double().square().sum()), rel=1e-12)
    assert squared_norm(matrix[:0]) == 0.0
