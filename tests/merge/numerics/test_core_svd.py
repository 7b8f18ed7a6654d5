"""Cores: eigenvectors where they are accurate enough, else the SVD."""

from __future__ import annotations

import math

import pytest
import torch
from lora_pack.merge.numerics.core_svd import by_eigenvectors, truncate_core
from lora_pack.merge.numerics.rank_rules import fixed_rank
from lora_pack.tests.support.makers import rotation

CORES: dict[str, tuple[list[float], int, bool]] = {
    # singular values, rank, whether eigenvectors are accurate enough
    "falling": ([1.1**-i for i in range(40)], 10, True),
    "flat": ([1.0] * 40, 10, True),
    "two of one size": ([3.0, 2.0, 2.0, 1.0], 2, True),
    "all kept": ([1.1**-i for i in range(40)], 40, True),
    "little dropped": ([1.0] * 10 + [1e-6] * 30, 10, False),
    "only zeros dropped": ([1.0] * 10 + [0.0] * 30, 10, False),
    "little kept": ([1.0, 1e-6, 1e-6, 1e-7], 2, False),
    "all kept, badly conditioned": ([10.0**-i for i in range(9)], 9, False),
    "nothing": ([0.0] * 5, 2, False),
}


@pytest.mark.parametrize(("values", "rank", "accurate"), CORES.values(), ids=CORES)
@pytest.mark.parametrize("size", [1e-60, 1.0, 1e60])
def test_a_core_is_truncated_as_well_as_possible(values: list[float], rank: int, accurate: bool, size: float):
    n = len(values)
    left, right = rotation(n, 1), rotation(n + 3, 2)[:, :n]
    core = (left * torch.tensor(values, dtype=torch.float64) * size) @ right.T
    best = truncate_core(core, fixed_rank(rank))
    assert (by_eigenvectors(core, fixed_rank(rank)) is not None) == accurate
    if not any(values):
        assert best is None
        return
    assert best is not None
    real = sum(value > 1e-12 * values[0] for value in values)
    assert best.up.shape == (n, min(rank, real)) and best.down.shape == (min(rank, real), n + 3)
    lost = float(torch.linalg.matrix_norm(core - best.up @ best.down))
    least = math.hypot(*values[rank:]) * size
    assert lost <= 1.000001 * least + 1e-13 * size
    assert math.isclose(best.total, math.hypot(*values) ** 2 * size**2, rel_tol=1e-9)
    assert math.isclose(best.total - best.kept, least**2, rel_tol=1e-6, abs_tol=1e-12 * size**2)
    lengths = torch.linalg.vector_norm(best.up, dim=0) / torch.linalg.vector_norm(best.down, dim=1)
    assert torch.allclose(lengths, torch.ones_like(lengths), rtol=1e-4), "factors are not balanced"


def test_a_core_with_more_rows_than_columns_is_truncated_like_its_transpose():
    core = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tall, wide = truncate_core(core, fixed_rank(3)), truncate_core(core.mT, fixed_rank(3))
    assert tall is not None and wide is not None
    assert torch.equal(tall.up, wide.down.mT) and torch.equal(tall.down, wide.up.mT)
