"""Brings an adapter of some rows of a weight to other rows of it. Exact: a delta's rows are its up factor's rows."""

from __future__ import annotations

from ..names import Target
from .base import Adapter
from .row_slices import pad_rows, rows_of, slice_rows, swap_halves


def retarget(adapter: Adapter, present: Target, wanted: Target, name: str) -> Adapter:
    """An adapter with the target ``present`` as one with the target ``wanted``, another part of the same weight.

    The adapter itself if the two are the same, otherwise a new one called ``name``. One of the two row ranges must
    contain the other: surplus rows are left out, missing rows become zeros.
    """
    if (present.rows, present.swapped) == (wanted.rows, wanted.swapped):
        return adapter
    if present.swapped:
        adapter = swap_halves(adapter, name)
    if present.rows != wanted.rows and present.rows.contains(wanted.rows):
        kept = wanted.rows.within(present.rows)
        adapter = slice_rows(adapter, name, kept.start, kept.stop)
    elif present.rows != wanted.rows:
        wanted_rows = int(rows_of(adapter, present) * wanted.rows.size)
        adapter = pad_rows(adapter, name, present.rows.within(wanted.rows).start, wanted_rows)
    if wanted.swapped:
        adapter = swap_halves(adapter, name)
    return adapter
