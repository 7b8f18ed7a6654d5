"""Rows of a weight, in fractions of all its rows: q is the first third of qkv in every size of a model."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, order=True)
class RowRange:
    """The rows from ``start`` up to, but not including, ``stop``."""

    start: Fraction
    stop: Fraction

    @property
    def size(self) -> Fraction:
        return self.stop - self.start

    def overlaps(self, other: RowRange) -> bool:
        return self.start < other.stop and other.start < self.stop

    def contains(self, other: RowRange) -> bool:
        return self.start <= other.start and other.stop <= self.stop

    def within(self, outer: RowRange) -> RowRange:
        """The same rows in fractions of the rows of ``outer``, which contains them."""
        return RowRange((self.start - outer.start) / outer.size, (self.stop - outer.start) / outer.size)


ALL_ROWS = RowRange(Fraction(0), Fraction(1))
