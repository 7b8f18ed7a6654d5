"""Merging LoRAs: the loop over the weights where they meet, on factors or on deltas."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..adapters.base import Adapter, Difference, Lora, LoraModule, Rows, by_key, with_block_weight
from ..adapters.combine import low_rank, marked_finite, side_by_side
from ..compute.context import CPU, Compute, attempt
from ..compute.devices import float64_device, on_cpu, on_device
from ..compute.precision import full_precision
from ..errors import LoraError
from ..formats import embeddings
from ..lazy import LazyTensor
from ..methods.blocks import Blocks, Mask, MaskStream
from ..methods.consensus import weighted_sum
from ..methods.registry import Method, delta_method, factor_method
from ..methods.sparsify import keep_all
from ..numerics import blocking, conditioning
from ..numerics.blocking import row_blocks, squared_norm
from ..numerics.buffers import Arena, ReusableBuffer
from ..numerics.dense_svd import SMALLEST_FLOAT, truncate_dense, truncate_dense_by_rule
from ..numerics.rank_rules import fixed_rank
from ..numerics.stacking import stack
from ..numerics.sum_svd import truncate_sum
from ..numerics.truncated import Truncated
from ..provenance import metadata, recipe
from . import name_notes
from .fused_rows import Contribution
from .key_resolver import KeyResolver, ModelNames, resolver_for
from .matching import WeightGroup, group_by_weight
from .parallel_check import ParallelCheck

log = logging.getLogger(__name__)

# Columns beyond the rank that the search for a dense delta's dominant subspace carries along.
MIN_OVERSAMPLING = 16


@full_precision()
def merge_factors(
    loras: Sequence[Lora],
    mode: str = "concat",
    density: float = 1.0,
    seed: int = 0,
    compute: Compute = CPU,
    model: ModelNames | None = None,
) -> Lora:
    """PM Merge LoRA: the mode acts on the factors, as PEFT's add_weighted_adapter does; ``concat`` is exact.

    With g = strength * alpha / rank each up counts sqrt|g| and each down sign(g) sqrt|g|, so that the strength counts
    once and keeps its sign. What has no factors (a full difference) is factored by SVD for concat and refused by the
    other modes. Raises LoraError for unknown modes, densities outside 0 to 1 and weights that disagree.
    """
    method = factor_method(mode)
    _require_density(density)
    resolver = resolver_for(loras, model)
    groups = group_by_weight(loras, resolver)
    if method.consensus is not None:
        require_factors(groups, mode)
    parallel = ParallelCheck(loras, groups) if method.consensus is weighted_sum else None

    def merged(group: WeightGroup, compute: Compute) -> Adapter:
        if group.is_replacement:
            return _replacement(group)
        if group.is_vector:
            return _on_vectors(group, method, density, seed, compute)
        if method.consensus is None:
            return _side_by_side(group, compute)
        return _on_factors(group, method, density, seed, compute, parallel)

    modules = _each(groups, merged, compute, lambda group: not all(s.adapter.has_factors for s in group.contributions))
    settings = {"mode": mode, **_settings(method, density, seed), **_reading(resolver)}
    note = parallel.note(mode) if parallel is not None else None
    return _result("merge", settings, loras, modules, compute, resolver, groups, note)


@full_precision()
def merge_deltas(
    loras: Sequence[Lora],
    mode: str = "add_svd",
    density: float = 1.0,
    rank: int = 32,
    conv_rank: int = 0,
    seed: int = 0,
    compute: Compute = CPU,
    model: ModelNames | None = None,
) -> Lora:
    """PM Merge LoRA SVD: the mode acts on the deltas, and the result is cut to a rank by SVD.

    ``rank`` is for linear and 1x1 modules, ``conv_rank`` for larger kernels; 0 is the largest rank among the inputs of
    that module. Sums of low-rank LoRAs are exact before the cut and form no dense delta. Raises LoraError as
    merge_factors does.
    """
    method = delta_method(mode)
    _require_density(density)
    for name, value in (("rank", rank), ("conv rank", conv_rank)):
        if value < 0:
            raise LoraError(f"The {name} is {value}; it must be 0 (as the inputs) or more.")
    resolver = resolver_for(loras, model)
    groups = group_by_weight(loras, resolver)
    buffer = ReusableBuffer(max((group.rows * group.columns for group in groups), default=0))

    def merged(group: WeightGroup, compute: Compute) -> Adapter:
        wanted = (conv_rank if group.is_convolution else rank) or group.rank
        if group.is_replacement:
            return _replacement(group)
        if group.is_vector:
            return _on_vectors(group, method, density, seed, compute)
        if _is_exact_sum(method, density, group):
            return _exact_sum(group, wanted, compute)
        return _on_deltas(group, method, density, seed, wanted, compute, buffer)

    modules = _each(groups, merged, compute, lambda group: not _is_exact_sum(method, density, group))
    settings = {"mode": method.name + "_svd", **_settings(method, density, seed), "rank": rank, "conv_rank": conv_rank}
    settings |= _reading(resolver)
    return _result("merge_svd", settings, loras, modules, compute, resolver, groups)


def _each(
    groups: Sequence[WeightGroup],
    merged: Callable[[WeightGroup, Compute], Adapter],
    compute: Compute,
    is_dense: Callable[[WeightGroup], bool],
) -> list[Adapter]:
    """The merged module of each meeting, with progress, and with room on the device for the largest."""
    needs = [_bytes_needed(group, is_dense(group)) for group in groups]
    if compute.device.type != "cpu":
        compute.make_room(max(needs, default=0))
    arena = Arena()

    def shelved(group: WeightGroup, compute: Compute) -> Adapter:
        try:
            module = merged(group, compute)
        except OverflowError:
            raise group.too_large_for(torch.float32) from None
        if not isinstance(module, LoraModule) or module.up.held is None or module.down.held is None:
            return module
        up, down = arena.copy(module.up.held), arena.copy(module.down.held)
        return replace(module, up=LazyTensor.of(up), down=LazyTensor.of(down))

    modules = []
    for done, (group, needed) in enumerate(zip(groups, needs, strict=True), 1):
        modules.append(attempt(compute, f"module {group.name}", needed, partial(shelved, group)))
        compute.step(done, len(groups))
    return modules


def _bytes_needed(group: WeightGroup, is_dense: bool) -> int:
    """About the most memory that a module takes on its device, besides its result: the factors in float64; for a dense
    delta also three matrices of its size, one more for each input without factors, and a few blocks of rows."""
    with_factors = [contribution.adapter for contribution in group.contributions if contribution.adapter.has_factors]
    ranks = sum(min(adapter.rank, group.rows, group.columns) for adapter in with_factors)
    factors = 3 * 8 * ranks * (group.rows + group.columns)
    if not is_dense:
        return factors
    numbers = group.rows * group.columns
    whole = len(group.contributions) - len(with_factors)
    blocks = (len(group.contributions) + 4) * min(numbers, blocking.GPU_BLOCK_ELEMENTS)
    return factors + 4 * ((3 + whole) * numbers + blocks)


def _require_density(density: float) -> None:
    if not 0 <= density <= 1:
        raise LoraError(f"The density is {density}; it must be between 0 and 1.")


def require_factors(groups: Sequence[WeightGroup], mode: str) -> None:
    """Raise LoraError where a mode of merge_factors that sees into the factors meets a module without any."""
    for group in groups:
        for contribution in group.contributions:
            adapter = contribution.adapter
            if not (group.is_vector or group.is_replacement or adapter.has_factors):
                raise LoraError(
                    f"{contribution.lora}: module {adapter.name} ({adapter.family}) has no low-rank factors for the "
                    f"mode {mode}. Use PM Merge LoRA SVD with {mode}_svd, or the mode concat."
                )


def _settings(method: Method, density: float, seed: int) -> dict[str, object]:
    """The settings that the method looks at: the others are not part of how the result was made."""
    return {
        **({"density": density} if method.uses_density else {}),
        **({"seed": seed} if method.uses_seed else {}),
    }


def _reading(resolver: KeyResolver) -> dict[str, object]:
    """How the names were read, where they don't say it themselves."""
    if resolver.asks_model:  # the files alone can't reproduce the merge
        return {recipe.FROM_MODEL: True}
    if resolver.by_names or resolver.architecture is None:
        return {}
    return {recipe.ARCHITECTURE: resolver.architecture.name}


def _result(
    operation: str,
    settings: dict[str, object],
    loras: Sequence[Lora],
    modules: Sequence[Adapter],
    compute: Compute,
    resolver: KeyResolver,
    groups: Sequence[WeightGroup],
    note: str | None = None,
) -> Lora:
    name = " + ".join(lora.name for lora in loras)
    settings["dtype"] = str(compute.dtype).removeprefix("torch.")
    used = [lora for lora in loras if lora.strength_model or lora.strength_clip]
    extras, differing = embeddings.together(used)
    return Lora(
        name if len(name) <= 80 else name[:77] + "...",
        by_key(modules),
        metadata=metadata.of_result(recipe.recipe_text(operation, settings, loras), loras),
        architecture=resolver.architecture,
        notes=_notes(loras, resolver, groups, [*differing, *([note] if note else [])]),
        extras=extras,
    )


def _notes(
    loras: Sequence[Lora], resolver: KeyResolver, groups: Sequence[WeightGroup], others: Sequence[str]
) -> tuple[str, ...]:
    """What the inputs and this merge have to say, each once; the log hears what is new."""
    on_names = name_notes.on_names(
        loras, resolver, [{contribution.input_index for contribution in group.contributions} for group in groups]
    )
    new = (*on_names, *others)
    for note in new:
        log.warning("%s", note)
    return tuple(dict.fromkeys([*(note for lora in loras for note in lora.notes), *new]))


# --- what has no factors and no rank ---


def _replacement(group: WeightGroup) -> Adapter:
    """All LoRAs replace the parameter by the same, whatever their strengths."""
    return with_block_weight(group.contributions[0].adapter, 1.0)


def _on_vectors(group: WeightGroup, method: Method, density: float, seed: int, compute: Compute) -> Difference:
    """Biases and norms: the mode acts on them as on deltas; side by side is their sum."""
    vectors = [on_device(contribution.adapter.dense(), compute.device) for contribution in group.contributions]
    sparse = [
        _sparse(vector, method, density, MaskStream(seed, group.weight, contribution.input_index, "delta"))
        for contribution, vector in zip(group.contributions, vectors, strict=True)
    ]
    merged = (method.consensus or weighted_sum)(sparse, [contribution.strength for contribution in group.contributions])
    value = on_cpu(merged, compute.dtype)
    group.require_finite(compute.dtype, value)
    return Difference.of(group.name, value, group.contributions[0].adapter.parameter)


def _sparse(tensor: Tensor, method: Method, density: float, draw: MaskStream) -> Tensor:
    mask = method.sparsify(Blocks(tensor.numel(), lambda: iter((tensor,))), density, draw)
    return mask(tensor, 0)


# --- on factors ---


def _factors(contribution: Contribution, device: torch.device) -> tuple[Tensor, Tensor]:
    """A share's factors on the device, in their own precision if the device has it: they are converted there."""
    factors = contribution.adapter.factors()
    assert factors is not None
    return on_device(factors[0], device), on_device(factors[1], device)


def _float32_factors(contribution: Contribution, device: torch.device) -> tuple[Tensor, Tensor]:
    up, down = _factors(contribution, device)
    return up.float(), down.float()


def _side_by_side(group: WeightGroup, compute: Compute) -> LoraModule:
    terms: list[tuple[Adapter, float]] = []
    for contribution in group.contributions:
        if contribution.effective_weight == 0:
            continue
        if contribution.adapter.has_factors:
            terms.append((contribution.adapter, contribution.effective_weight))
            continue
        whole = min(group.rows, group.columns)
        dense = on_device(contribution.adapter.dense(), compute.device)
        exact = truncate_dense_by_rule(dense, fixed_rank(whole), compute.check)
        if exact is not None:
            up, down = exact.up.cpu(), exact.down.cpu()
            terms.append((low_rank(group.name, up, down, group.weight_shape), contribution.strength))
    if not terms:
        return group.zero(compute.dtype)
    module = side_by_side(group.name, terms, group.weight_shape, group.reshape, compute.dtype)
    if not (module.up.is_finite and module.down.is_finite):  # reported now, not where the result is used
        group.require_finite(compute.dtype, module.up.materialize(), module.down.materialize())
        module = marked_finite(module)
    return module


def _on_factors(
    group: WeightGroup, method: Method, density: float, seed: int, compute: Compute, parallel: ParallelCheck | None
) -> LoraModule:
    ups, downs = zip(
        *(_float32_factors(contribution, compute.device) for contribution in group.contributions), strict=True
    )
    roots = [math.sqrt(abs(contribution.effective_weight)) for contribution in group.contributions]
    signed = [
        math.copysign(root, contribution.effective_weight)
        for root, contribution in zip(roots, group.contributions, strict=True)
    ]
    rank = max(down.shape[0] for down in downs)
    merged = []
    for side, factors, weights in (("up", ups, roots), ("down", downs, signed)):
        sparse = []
        for contribution, factor in zip(group.contributions, factors, strict=True):
            kept = _sparse(factor, method, density, MaskStream(seed, group.weight, contribution.input_index, side))
            # pruned at the LoRA's own rank, then padded to the largest
            padding = (0, rank - factor.shape[1]) if side == "up" else (0, 0, 0, rank - factor.shape[0])
            sparse.append(torch.nn.functional.pad(kept, padding) if any(padding) else kept)
        assert method.consensus is not None
        merged.append(method.consensus(sparse, weights))
        compute.check()
    up, down = merged
    if parallel is not None:
        parallel.look(group, ups, downs, up, down)
    if not up.any() or not down.any():
        return group.zero(compute.dtype)
    return group.module(up, down, compute.dtype)


# --- on deltas ---


def _is_exact_sum(method: Method, density: float, group: WeightGroup) -> bool:
    """Whether the mode comes to the plain weighted sum of low-rank factors here, which stays low-rank."""
    keeps_all = method.sparsify is keep_all or density >= 1
    is_sum = keeps_all and (method.consensus is weighted_sum or len(group.contributions) == 1)
    return is_sum and all(contribution.adapter.has_factors for contribution in group.contributions)


def _exact_sum(group: WeightGroup, rank: int, compute: Compute) -> LoraModule:
    device = compute.float64_device
    terms = [
        (*_factors(contribution, device), contribution.effective_weight)
        for contribution in group.contributions
        if contribution.effective_weight != 0
    ]
    if not terms:
        return group.zero(compute.dtype)
    best = truncate_sum(terms, fixed_rank(rank))
    return _cut(group, best, compute)


def _on_deltas(
    group: WeightGroup, method: Method, density: float, seed: int, rank: int, compute: Compute, buffer: ReusableBuffer
) -> LoraModule:
    dense, total = _merged_delta(group, method, density, seed, compute, buffer)
    rank = min(rank, group.rows, group.columns)
    draw = MaskStream(0, group.weight, 0, "start")  # not the user's seed, which is no part of how such modes merge
    start = _likely_columns(group, rank, draw, compute)
    spare = max(MIN_OVERSAMPLING, rank // 2) + rank - start.shape[1]
    noise = _noise(group.rows, spare, draw).to(compute.device)
    best = truncate_dense(dense, rank, start, noise, compute.check, total)
    return _cut(group, best, compute)


def _cut(group: WeightGroup, best: Truncated | None, compute: Compute) -> LoraModule:
    """The module from the best approximation of its rank; None stands for nothing but zeros."""
    if best is None:
        return group.zero(compute.dtype)
    compute.report_truncation(best.kept, best.total)
    return group.module(best.up, best.down, compute.dtype)


def _merged_delta(
    group: WeightGroup, method: Method, density: float, seed: int, compute: Compute, buffer: ReusableBuffer
) -> tuple[Tensor, float]:
    """The merged delta as a dense float32 matrix, and its squared norm. Before it the magnitudes of one input after the
    other stand in the same memory."""
    count = group.rows * group.columns
    deltas = [_delta_rows(contribution.adapter, compute.device) for contribution in group.contributions]
    masks: list[Mask] = []
    for contribution, delta in zip(group.contributions, deltas, strict=True):

        def blocks(delta: Rows = delta) -> Iterator[Tensor]:
            for start, stop in row_blocks(group.rows, group.columns, compute.device):
                compute.check()
                yield delta(start, stop)

        draw = MaskStream(seed, group.weight, contribution.input_index, "delta")
        masks.append(method.sparsify(Blocks(count, blocks, buffer.floats), density, draw))
    weights = [contribution.strength for contribution in group.contributions]
    if compute.device.type == "cpu":
        dense = buffer.floats(count)
    else:
        dense = torch.empty(count, dtype=torch.float32, device=compute.device)
    dense = dense.view(group.rows, group.columns)
    total = 0.0
    assert method.consensus is not None
    for start, stop in row_blocks(group.rows, group.columns, compute.device):
        compute.check()
        parts = [mask(delta(start, stop), start * group.columns) for mask, delta in zip(masks, deltas, strict=True)]
        dense[start:stop] = method.consensus(parts, weights)
        total += squared_norm(dense[start:stop])
        if not math.isfinite(total):
            raise group.too_large_for(torch.float32)
    return dense, total


def _delta_rows(adapter: Adapter, device: torch.device) -> Rows:
    """Rows of an adapter's delta on a device, from its factors where it has them."""
    factors = adapter.factors()
    if factors is not None:
        up, down = (on_device(factor, float64_device(device)) for factor in factors)
        left, right = (factor.to(device) for factor in conditioning.float32_factors(up, down))
        scale = adapter.scale
        if _is_power_of_two(scale):
            left = left * scale
            return lambda start, stop: left[start:stop] @ right
        # scaled after the product: what ties in magnitude before the scale ties after it
        return lambda start, stop: (left[start:stop] @ right).mul_(scale)
    if device.type == "cpu":
        return adapter.rows()
    dense = on_device(adapter.dense(), device)  # moved once: the rows are asked for in several passes
    return lambda start, stop: dense[start:stop]


def _is_power_of_two(scale: float) -> bool:
    """Whether multiplying with it rounds nothing; those near float32's limits aside."""
    mantissa, exponent = math.frexp(scale)
    return abs(mantissa) == 0.5 and abs(exponent) < 32


def _likely_columns(group: WeightGroup, rank: int, draw: MaskStream, compute: Compute) -> Tensor:
    """At most ``rank`` columns near the dominant left subspace of the masked delta: they are in that of the unmasked.

    All columns of its factors where they are few, else what one step of power iteration makes of random ones.
    """
    terms = [
        (*_factors(contribution, compute.device), contribution.effective_weight)
        for contribution in group.contributions
        if contribution.adapter.has_factors
    ]
    if not terms:
        return torch.zeros(group.rows, 0, device=compute.device)
    up, down = stack(terms, torch.float32)
    if up.shape[1] <= rank:
        return up
    up, down = (factor / max(float(torch.linalg.vector_norm(factor)), SMALLEST_FLOAT) for factor in (up, down))
    random = _noise(group.rows, rank, draw).to(compute.device)
    return up @ ((down @ down.mT) @ (up.mT @ random))


def _noise(rows: int, columns: int, draw: MaskStream) -> Tensor:
    """Random columns for the subspace search, the same on every device; signs do as well as Gaussians there."""
    signs = torch.from_numpy((draw.integers(0, rows * columns) & 1).astype("float32"))
    return (signs * 2 - 1).reshape(rows, columns)
