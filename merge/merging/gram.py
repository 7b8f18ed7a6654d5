"""Inner products of the deltas of one weight, with or without factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..compute.context import Compute
from ..compute.devices import in_float64
from ..methods.kernels import Reweight
from ..numerics.blocking import row_blocks
from ..numerics.finite import require_no_overflow
from ..numerics.gram import term_gram
from .delta_rows import delta_rows, factors_on
from .matching import WeightGroup
from .settings import MergeSettings


def group_gram(group: WeightGroup, compute: Compute) -> Tensor:
    """<D_i, D_j> of a group's contributions, strengths included: (T, T) in float64 on the CPU.

    From the factors if all have some; else from the deltas, a block of rows at a time.
    """
    if group.has_all_factors:
        return term_gram(
            [(*factors_on(compute.float64_device, one), one.effective_weight) for one in group.contributions]
        )
    strengths = torch.tensor([one.strength for one in group.contributions], dtype=torch.float64)
    gram = _gram_of_rows([one.adapter for one in group.contributions], group, compute)
    require_no_overflow(float(gram.sum()))
    return gram * strengths * strengths[:, None]


def without_zeros(group: WeightGroup, compute: Compute) -> tuple[WeightGroup | None, Tensor]:
    """The group without contributions that are exactly zero, and its Gram matrix; None if there are no others."""
    gram = group_gram(group, compute)
    used = [number for number, square in enumerate(gram.diagonal().tolist()) if square > 0]
    if not used:
        return None, gram[:0, :0]
    contributions = tuple(group.contributions[number] for number in used)
    return replace(group, contributions=contributions), gram[used][:, used]


def reweighted(
    group: WeightGroup, kernel: Reweight, settings: MergeSettings, compute: Compute
) -> tuple[WeightGroup | None, bool]:
    """The group with strengths whose plain sum is the method's result; None if all contributions are zero.

    Also whether the method is defined there; if not, the strengths are as they were.
    """
    used, gram = without_zeros(group, compute)
    if used is None:
        return None, True
    strengths = [one.strength for one in used.contributions]
    coefficients = kernel.coefficients(gram, strengths, settings.of_method)
    if coefficients is None:
        return used, False
    contributions = zip(used.contributions, coefficients, strict=True)
    changed = tuple(replace(one, strength=one.strength * factor) for one, factor in contributions)
    return replace(used, contributions=changed), True


def _gram_of_rows(adapters: Sequence[Adapter], group: WeightGroup, compute: Compute) -> Tensor:
    place, gram = compute.float64_device, torch.zeros(len(adapters), len(adapters), dtype=torch.float64)
    rows_of = [delta_rows(adapter, compute.device) for adapter in adapters]
    for start, stop in row_blocks(group.rows, group.columns, compute.device):
        compute.check()
        flat = torch.empty(len(adapters), (stop - start) * group.columns, dtype=torch.float64, device=place)
        for row, rows in zip(flat, rows_of, strict=True):
            row.copy_(in_float64(rows(start, stop)).reshape(-1))
        gram += (flat @ flat.mT).cpu()
        del flat  # before the next one is made: on a GPU it takes 32 MB for each LoRA
    return gram
