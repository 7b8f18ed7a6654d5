"""What merge_factors and merge_deltas share: the loop over the weights, and the LoRA made of its results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from ..adapters.base import Adapter, Lora, LoraModule, by_key, with_block_weight
from ..compute.context import Compute, attempt
from ..formats import embeddings
from ..lazy import LazyTensor
from ..numerics.blocking import GPU_BLOCK_ELEMENTS
from ..numerics.buffers import Arena
from ..provenance import metadata, recipe
from . import name_notes
from .key_resolver import KeyResolver
from .matching import WeightGroup

log = logging.getLogger(__name__)


def merge_groups(
    groups: Sequence[WeightGroup],
    merge_vector: Callable[[WeightGroup, Compute], Adapter],
    merge_matrices: Callable[[WeightGroup, Compute], Adapter],
    forms_delta: Callable[[WeightGroup], bool],
    compute: Compute,
) -> list[Adapter]:
    """Merge each group, with progress; on a GPU the host is first asked to free the memory of the largest.

    ``merge_matrices`` merges weights with two or more dimensions, and ``forms_delta`` says for which of them it forms a
    dense delta, which takes more memory. ``merge_vector`` merges biases and norms; replaced parameters are kept here.
    """
    needs = [_bytes_needed(group, forms_delta(group)) for group in groups]
    if compute.device.type != "cpu":
        compute.make_room(max(needs, default=0))
    arena = Arena()

    def merge_one(group: WeightGroup, compute: Compute) -> Adapter:
        if group.is_replacement:  # all LoRAs replace it by the same values, whatever their strengths
            return with_block_weight(group.contributions[0].adapter, 1.0)
        try:
            module = merge_vector(group, compute) if group.is_vector else merge_matrices(group, compute)
        except OverflowError:
            raise group.too_large_for(torch.float32) from None
        if not isinstance(module, LoraModule) or module.up.held is None or module.down.held is None:
            return module
        up, down = arena.copy(module.up.held), arena.copy(module.down.held)
        return replace(module, up=LazyTensor.of(up), down=LazyTensor.of(down))

    modules = []
    for done, (group, needed) in enumerate(zip(groups, needs, strict=True), 1):
        modules.append(attempt(compute, f"module {group.name}", needed, partial(merge_one, group)))
        compute.step(done, len(groups))
    return modules


def _bytes_needed(group: WeightGroup, forms_delta: bool) -> int:
    """About the most memory that a group takes on its device, besides its result: the factors in float64; for a dense
    delta also three matrices of its size, one more for each input without factors, and a few blocks of rows, or float64
    blocks of all inputs for their inner products."""
    with_factors = [contribution.adapter for contribution in group.contributions if contribution.adapter.has_factors]
    ranks = sum(min(adapter.rank, group.rows, group.columns) for adapter in with_factors)
    factors = 3 * 8 * ranks * (group.rows + group.columns)
    if not forms_delta:
        return factors
    elements = group.rows * group.columns
    without_factors = len(group.contributions) - len(with_factors)
    block, inputs = min(elements, GPU_BLOCK_ELEMENTS), len(group.contributions)
    merging = 4 * (3 * elements + (inputs + 4) * block)
    inner_products = 8 * (inputs + 2) * block
    return factors + 4 * without_factors * elements + max(merging, inner_products)


def merged_lora(
    operation: str,
    settings: dict[str, object],
    loras: Sequence[Lora],
    groups: Sequence[WeightGroup],
    modules: Sequence[Adapter],
    resolver: KeyResolver,
    compute: Compute,
    notes: Sequence[str] = (),
) -> Lora:
    """The result of a merge. ``operation`` and ``settings`` go into its recipe; ``notes`` are for the user."""
    name = " + ".join(lora.name for lora in loras)
    settings = {**settings, "dtype": str(compute.dtype).removeprefix("torch.")}
    used = [lora for lora in loras if lora.strength_model or lora.strength_clip]
    extras, differing = embeddings.together(used)
    return Lora(
        name if len(name) <= 80 else name[:77] + "...",
        by_key(modules),
        metadata=metadata.of_result(recipe.recipe_text(operation, settings, loras), loras),
        architecture=resolver.architecture,
        notes=_notes(loras, groups, resolver, [*differing, *notes]),
        extras=extras,
    )


def names_for_recipe(resolver: KeyResolver) -> dict[str, object]:
    """How the names were resolved, if the files alone don't say it."""
    if resolver.asks_model:  # the files alone can't reproduce the merge
        return {recipe.FROM_MODEL: True}
    if resolver.by_names or resolver.architecture is None:
        return {}
    return {recipe.ARCHITECTURE: resolver.architecture.name}


def _notes(
    loras: Sequence[Lora], groups: Sequence[WeightGroup], resolver: KeyResolver, others: Sequence[str]
) -> tuple[str, ...]:
    """The notes of the inputs and of this merge, each once. Those of this merge are logged."""
    input_indices = [{contribution.input_index for contribution in group.contributions} for group in groups]
    new = (*name_notes.on_names(loras, resolver, input_indices), *others)
    for note in new:
        log.warning("%s", note)
    return tuple(dict.fromkeys([*(note for lora in loras for note in lora.notes), *new]))
