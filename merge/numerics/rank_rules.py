"""Rank rules: how many singular values a truncation keeps."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# Picks a rank, at least 1, from descending singular values.
RankRule = Callable[[Tensor], int]


def fixed_rank(rank: int) -> RankRule:
    """This rank, or all singular values where there are fewer."""
    return lambda values: min(rank, len(values))


def ratio_rank(ratio: float, most: int) -> RankRule:
    """The smallest rank whose next singular value is at most 1/ratio of the largest (kohya's sv_ratio)."""
    return lambda values: _bounded(int((values > values[0] / ratio).sum()), most, values)


def cumulative_rank(share: float, most: int) -> RankRule:
    """The smallest rank whose singular values sum to at least this share of all (kohya's sv_cumulative)."""
    return lambda values: _bounded(_first_reaching(values, share), most, values)


def frobenius_rank(share: float, most: int) -> RankRule:
    """The smallest rank that keeps at least this share of the Frobenius norm (kohya's sv_fro)."""
    return lambda values: _bounded(_first_reaching(values.square(), share * share), most, values)


def _first_reaching(values: Tensor, share: float) -> int:
    sums = values.double().cumsum(0)
    return int((sums < share * sums[-1] * (1 - 1e-12)).sum()) + 1


def _bounded(rank: int, most: int, values: Tensor) -> int:
    return max(1, min(rank, most, len(values)))
