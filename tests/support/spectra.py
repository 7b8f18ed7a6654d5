"""Matrices with chosen singular values, and what a truncated SVD of a matrix must fulfil."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from lora_pack.merge.numerics.truncated import Truncated
from lora_pack.tests.support import oracle
from lora_pack.tests.support.makers import rotation
from torch import Tensor


def product(shape: tuple[int, int], values: Sequence[float], seed: int = 0, gauge: Tensor | None = None):
    """float64 factors (m, R) and (R, n) whose product has these singular values."""
    left, right = (rotation(size, seed + i)[:, : len(values)] for i, size in enumerate(shape))
    up, down = left * torch.tensor(values, dtype=torch.float64), right.T
    return (up, down) if gauge is None else (up @ gauge, torch.linalg.inv(gauge) @ down)


def assert_truncated(found: Truncated | None, whole: np.ndarray, rank: int, most: float) -> None:
    """Balanced factors of at most this rank, at most ``most`` times the least possible error, and the right norms."""
    assert found is not None
    up, down = found.up.double().numpy(), found.down.double().numpy()
    k = up.shape[1]
    assert k == down.shape[0] <= rank
    size = float(np.linalg.norm(whole))
    error = float(np.linalg.norm(up @ down - whole))
    assert error <= math.hypot(most * oracle.best_error(whole, k), 1e-6 * size)
    assert k == rank or oracle.best_error(whole, k) <= 1e-6 * size, (
        "fewer ranks than asked for, although the matrix has more"
    )
    assert math.isclose(found.total, size**2, rel_tol=1e-5)
    assert math.isclose(found.kept, float(np.linalg.norm(up @ down)) ** 2, rel_tol=1e-5)
    lengths = np.square(up).sum(axis=0), np.square(down).sum(axis=1)
    assert np.allclose(*lengths, rtol=1e-3, atol=1e-5 * lengths[0].max()), "factors are not balanced"
    assert np.all(np.diff(lengths[0]) <= 1e-5 * lengths[0].max()), "not in descending order"
