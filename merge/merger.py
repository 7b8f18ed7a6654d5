"""Merging LoRAs: the loop over the weights where they meet, on factors or on deltas."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from . import lowrank, metadata, notes, recipe
from .align import Meeting, meet
from .compute import CPU, Compute, attempt
from .devices import float64_device, on_cpu, on_device
from .formats import embeddings
from .join import low_rank, marked_finite, side_by_side
from .kernels import Blocks, Draw, Mask, keep_all, weighted_sum
from .lora import (
    Adapter,
    Difference,
    Lora,
    LoraError,
    LoraModule,
    LowRank,
    Rows,
    by_key,
    known_finite,
    with_block_weight,
)
from .methods import Method, delta_method, factor_method
from .parallel import ParallelCheck
from .precision import full_precision
from .reading import ModelNames, NameReader, reader_for
from .scratch import Scratch, Shelf
from .share import Share

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
    reader = reader_for(loras, model)
    meetings = meet(loras, reader)
    if method.consensus is not None:
        require_factors(meetings, mode)
    parallel = ParallelCheck(loras, meetings) if method.consensus is weighted_sum else None

    def merged(meeting: Meeting, compute: Compute) -> Adapter:
        if meeting.is_replacement:
            return _replacement(meeting)
        if meeting.is_vector:
            return _on_vectors(meeting, method, density, seed, compute)
        if method.consensus is None:
            return _side_by_side(meeting, compute)
        return _on_factors(meeting, method, density, seed, compute, parallel)

    modules = _each(meetings, merged, compute, lambda meeting: not all(s.adapter.has_factors for s in meeting.shares))
    settings = {"mode": mode, **_settings(method, density, seed), **_reading(reader)}
    note = parallel.note(mode) if parallel is not None else None
    return _result("merge", settings, loras, modules, compute, reader, meetings, note)


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
    reader = reader_for(loras, model)
    meetings = meet(loras, reader)
    scratch = Scratch(max((meeting.rows * meeting.columns for meeting in meetings), default=0))

    def merged(meeting: Meeting, compute: Compute) -> Adapter:
        wanted = (conv_rank if meeting.is_convolution else rank) or meeting.rank
        if meeting.is_replacement:
            return _replacement(meeting)
        if meeting.is_vector:
            return _on_vectors(meeting, method, density, seed, compute)
        if _is_exact_sum(method, density, meeting):
            return _exact_sum(meeting, wanted, compute)
        return _on_deltas(meeting, method, density, seed, wanted, compute, scratch)

    modules = _each(meetings, merged, compute, lambda meeting: not _is_exact_sum(method, density, meeting))
    settings = {"mode": method.name + "_svd", **_settings(method, density, seed), "rank": rank, "conv_rank": conv_rank}
    settings |= _reading(reader)
    return _result("merge_svd", settings, loras, modules, compute, reader, meetings)


def _each(
    meetings: Sequence[Meeting],
    merged: Callable[[Meeting, Compute], Adapter],
    compute: Compute,
    is_dense: Callable[[Meeting], bool],
) -> list[Adapter]:
    """The merged module of each meeting, with progress, and with room on the device for the largest."""
    needs = [_bytes_needed(meeting, is_dense(meeting)) for meeting in meetings]
    if compute.device.type != "cpu":
        compute.make_room(max(needs, default=0))
    shelf = Shelf()

    def shelved(meeting: Meeting, compute: Compute) -> Adapter:
        try:
            module = merged(meeting, compute)
        except OverflowError:
            raise meeting.too_large_for(torch.float32) from None
        if not isinstance(module, LoraModule):
            return module
        return replace(module, up=shelf.kept(module.up), down=shelf.kept(module.down))

    modules = []
    for done, (meeting, needed) in enumerate(zip(meetings, needs, strict=True), 1):
        modules.append(attempt(compute, f"module {meeting.name}", needed, partial(shelved, meeting)))
        compute.step(done, len(meetings))
    return modules


def _bytes_needed(meeting: Meeting, is_dense: bool) -> int:
    """About the most memory that a module takes on its device, besides its result: the factors in float64; for a dense
    delta also three matrices of its size, one more for each input without factors, and a few blocks of rows."""
    with_factors = [share.adapter for share in meeting.shares if share.adapter.has_factors]
    ranks = sum(min(adapter.rank, meeting.rows, meeting.columns) for adapter in with_factors)
    factors = 3 * 8 * ranks * (meeting.rows + meeting.columns)
    if not is_dense:
        return factors
    numbers = meeting.rows * meeting.columns
    whole = len(meeting.shares) - len(with_factors)
    blocks = (len(meeting.shares) + 4) * min(numbers, lowrank.CARD_BLOCK_ELEMENTS)
    return factors + 4 * ((3 + whole) * numbers + blocks)


def _require_density(density: float) -> None:
    if not 0 <= density <= 1:
        raise LoraError(f"The density is {density}; it must be between 0 and 1.")


def require_factors(meetings: Sequence[Meeting], mode: str) -> None:
    """Raise LoraError where a mode of merge_factors that sees into the factors meets a module without any."""
    for meeting in meetings:
        for share in meeting.shares:
            adapter = share.adapter
            if not (meeting.is_vector or meeting.is_replacement or adapter.has_factors):
                raise LoraError(
                    f"{share.lora}: module {adapter.name} ({adapter.family}) has no low-rank factors for the mode "
                    f"{mode}. Use PM Merge LoRA SVD with {mode}_svd, or the mode concat."
                )


def _settings(method: Method, density: float, seed: int) -> dict[str, object]:
    """The settings that the method looks at: the others are not part of how the result was made."""
    return {
        **({"density": density} if method.uses_density else {}),
        **({"seed": seed} if method.uses_seed else {}),
    }


def _reading(reader: NameReader) -> dict[str, object]:
    """How the names were read, where they don't say it themselves."""
    if reader.asks_model:  # the files alone can't reproduce the merge
        return {recipe.FROM_MODEL: True}
    if reader.by_names or reader.architecture is None:
        return {}
    return {recipe.ARCHITECTURE: reader.architecture.name}


def _result(
    operation: str,
    settings: dict[str, object],
    loras: Sequence[Lora],
    modules: Sequence[Adapter],
    compute: Compute,
    reader: NameReader,
    meetings: Sequence[Meeting],
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
        architecture=reader.architecture,
        notes=_notes(loras, reader, meetings, [*differing, *([note] if note else [])]),
        extras=extras,
    )


def _notes(
    loras: Sequence[Lora], reader: NameReader, meetings: Sequence[Meeting], others: Sequence[str]
) -> tuple[str, ...]:
    """What the inputs and this merge have to say, each once; the log hears what is new."""
    on_names = notes.on_names(loras, reader, [{share.number for share in meeting.shares} for meeting in meetings])
    new = (*on_names, *others)
    for note in new:
        log.warning("%s", note)
    return tuple(dict.fromkeys([*(note for lora in loras for note in lora.notes), *new]))


# --- what has no factors and no rank ---


def _replacement(meeting: Meeting) -> Adapter:
    """All LoRAs replace the parameter by the same, whatever their strengths."""
    return with_block_weight(meeting.shares[0].adapter, 1.0)


def _on_vectors(meeting: Meeting, method: Method, density: float, seed: int, compute: Compute) -> Difference:
    """Biases and norms: the mode acts on them as on deltas; side by side is their sum."""
    vectors = [on_device(share.adapter.dense(), compute.device) for share in meeting.shares]
    sparse = [
        _sparse(vector, method, density, Draw(seed, meeting.weight, share.number, "delta"))
        for share, vector in zip(meeting.shares, vectors, strict=True)
    ]
    merged = (method.consensus or weighted_sum)(sparse, [share.strength for share in meeting.shares])
    value = on_cpu(merged, compute.dtype)
    meeting.require_finite(compute.dtype, value)
    return Difference(meeting.name, value, meeting.shares[0].adapter.parameter)


def _sparse(tensor: Tensor, method: Method, density: float, draw: Draw) -> Tensor:
    mask = method.sparsify(Blocks(tensor.numel(), lambda: iter((tensor,))), density, draw)
    return mask(tensor, 0)


# --- on factors ---


def _factors(share: Share, device: torch.device) -> tuple[Tensor, Tensor]:
    """A share's factors on the device, in their own precision if the device has it: they are converted there."""
    factors = share.adapter.factors()
    assert factors is not None
    return on_device(factors[0], device), on_device(factors[1], device)


def _float32_factors(share: Share, device: torch.device) -> tuple[Tensor, Tensor]:
    up, down = _factors(share, device)
    return up.float(), down.float()


def _side_by_side(meeting: Meeting, compute: Compute) -> LowRank:
    terms: list[tuple[Adapter, float]] = []
    for share in meeting.shares:
        if share.gain == 0:
            continue
        if share.adapter.has_factors:
            terms.append((share.adapter, share.gain))
            continue
        whole = min(meeting.rows, meeting.columns)
        dense = on_device(share.adapter.dense(), compute.device)
        exact = lowrank.truncate_dense_by(dense, lowrank.fixed_rank(whole), compute.check)
        if exact is not None:
            up, down = exact.up.cpu(), exact.down.cpu()
            terms.append((low_rank(meeting.name, up, down, meeting.weight_shape), share.strength))
    if not terms:
        return meeting.zero(compute.dtype)
    module = side_by_side(meeting.name, terms, meeting.weight_shape, meeting.reshape, compute.dtype)
    if not all(map(known_finite, module.halves)):  # told now, not where the result is used
        meeting.require_finite(compute.dtype, module.up, module.down)
        module = marked_finite(module)
    return module


def _on_factors(
    meeting: Meeting, method: Method, density: float, seed: int, compute: Compute, parallel: ParallelCheck | None
) -> LoraModule:
    ups, downs = zip(*(_float32_factors(share, compute.device) for share in meeting.shares), strict=True)
    roots = [math.sqrt(abs(share.gain)) for share in meeting.shares]
    signed = [math.copysign(root, share.gain) for root, share in zip(roots, meeting.shares, strict=True)]
    rank = max(down.shape[0] for down in downs)
    merged = []
    for side, factors, weights in (("up", ups, roots), ("down", downs, signed)):
        sparse = []
        for share, factor in zip(meeting.shares, factors, strict=True):
            kept = _sparse(factor, method, density, Draw(seed, meeting.weight, share.number, side))
            # pruned at the LoRA's own rank, then padded to the largest
            padding = (0, rank - factor.shape[1]) if side == "up" else (0, 0, 0, rank - factor.shape[0])
            sparse.append(torch.nn.functional.pad(kept, padding) if any(padding) else kept)
        assert method.consensus is not None
        merged.append(method.consensus(sparse, weights))
        compute.check()
    up, down = merged
    if parallel is not None:
        parallel.look(meeting, ups, downs, up, down)
    if not up.any() or not down.any():
        return meeting.zero(compute.dtype)
    return meeting.module(up, down, compute.dtype)


# --- on deltas ---


def _is_exact_sum(method: Method, density: float, meeting: Meeting) -> bool:
    """Whether the mode comes to the plain weighted sum of low-rank factors here, which stays low-rank."""
    keeps_all = method.sparsify is keep_all or density >= 1
    is_sum = keeps_all and (method.consensus is weighted_sum or len(meeting.shares) == 1)
    return is_sum and all(share.adapter.has_factors for share in meeting.shares)


def _exact_sum(meeting: Meeting, rank: int, compute: Compute) -> LoraModule:
    device = compute.float64_device
    terms = [(*_factors(share, device), share.gain) for share in meeting.shares if share.gain != 0]
    if not terms:
        return meeting.zero(compute.dtype)
    best = lowrank.truncate_sum(terms, lowrank.fixed_rank(rank))
    return _cut(meeting, best, compute)


def _on_deltas(
    meeting: Meeting, method: Method, density: float, seed: int, rank: int, compute: Compute, scratch: Scratch
) -> LoraModule:
    dense, total = _merged_delta(meeting, method, density, seed, compute, scratch)
    rank = min(rank, meeting.rows, meeting.columns)
    draw = Draw(0, meeting.weight, 0, "start")  # not the user's seed, which is no part of how such modes merge
    start = _likely_columns(meeting, rank, draw, compute)
    spare = max(MIN_OVERSAMPLING, rank // 2) + rank - start.shape[1]
    noise = _noise(meeting.rows, spare, draw).to(compute.device)
    best = lowrank.truncate_dense(dense, rank, start, noise, compute.check, total)
    return _cut(meeting, best, compute)


def _cut(meeting: Meeting, best: lowrank.Truncated | None, compute: Compute) -> LoraModule:
    """The module from the best approximation of its rank; None stands for nothing but zeros."""
    if best is None:
        return meeting.zero(compute.dtype)
    compute.report_cut(best.kept, best.total)
    return meeting.module(best.up, best.down, compute.dtype)


def _merged_delta(
    meeting: Meeting, method: Method, density: float, seed: int, compute: Compute, scratch: Scratch
) -> tuple[Tensor, float]:
    """The merged delta as a dense float32 matrix, and its squared norm. Before it the magnitudes of one input after the
    other stand in the same memory."""
    count = meeting.rows * meeting.columns
    deltas = [_delta_rows(share.adapter, compute.device) for share in meeting.shares]
    masks: list[Mask] = []
    for share, delta in zip(meeting.shares, deltas, strict=True):

        def blocks(delta: Rows = delta) -> Iterator[Tensor]:
            for start, stop in lowrank.row_blocks(meeting.rows, meeting.columns, compute.device):
                compute.check()
                yield delta(start, stop)

        draw = Draw(seed, meeting.weight, share.number, "delta")
        masks.append(method.sparsify(Blocks(count, blocks, scratch.floats), density, draw))
    weights = [share.strength for share in meeting.shares]
    if compute.device.type == "cpu":
        dense = scratch.floats(count)
    else:
        dense = torch.empty(count, dtype=torch.float32, device=compute.device)
    dense = dense.view(meeting.rows, meeting.columns)
    total = 0.0
    assert method.consensus is not None
    for start, stop in lowrank.row_blocks(meeting.rows, meeting.columns, compute.device):
        compute.check()
        parts = [mask(delta(start, stop), start * meeting.columns) for mask, delta in zip(masks, deltas, strict=True)]
        dense[start:stop] = method.consensus(parts, weights)
        total += lowrank.squared_norm(dense[start:stop])
        if not math.isfinite(total):
            raise meeting.too_large_for(torch.float32)
    return dense, total


def _delta_rows(adapter: Adapter, device: torch.device) -> Rows:
    """Rows of an adapter's delta on a device, from its factors where it has them."""
    factors = adapter.factors()
    if factors is not None:
        up, down = (on_device(factor, float64_device(device)) for factor in factors)
        left, right = (factor.to(device) for factor in lowrank.float32_factors(up, down))
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


def _likely_columns(meeting: Meeting, rank: int, draw: Draw, compute: Compute) -> Tensor:
    """At most ``rank`` columns near the dominant left subspace of the masked delta: they are in that of the unmasked.

    All columns of its factors where they are few, else what one step of power iteration makes of random ones.
    """
    terms = [(*_factors(share, compute.device), share.gain) for share in meeting.shares if share.adapter.has_factors]
    if not terms:
        return torch.zeros(meeting.rows, 0, device=compute.device)
    up, down = lowrank.stack(terms, torch.float32)
    if up.shape[1] <= rank:
        return up
    up, down = (factor / max(float(torch.linalg.vector_norm(factor)), lowrank.TINY) for factor in (up, down))
    random = _noise(meeting.rows, rank, draw).to(compute.device)
    return up @ ((down @ down.mT) @ (up.mT @ random))


def _noise(rows: int, columns: int, draw: Draw) -> Tensor:
    """Random columns for the subspace search, the same on every device; signs do as well as Gaussians there."""
    signs = torch.from_numpy((draw.integers(0, rows * columns) & 1).astype("float32"))
    return (signs * 2 - 1).reshape(rows, columns)
