"""Merging LoRAs: which modules meet, and the loop over them, on factors or on deltas."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import keys, lowrank, recipe
from .compute import CPU, Compute
from .kernels import Draw, Mask, keep_all, weighted_sum
from .lora import Lora, LoraError, LoraModule, modules_by_name
from .methods import Method, delta_method, factor_method

# Columns beyond the rank that the search for a dense delta's dominant subspace carries along.
MIN_OVERSAMPLING = 16


@dataclass(frozen=True, eq=False)
class Share:
    """One LoRA's part in a module of the merge: the adapter, its strength, and the LoRA's number among the inputs."""

    module: LoraModule
    strength: float
    number: int

    @property
    def gain(self) -> float:
        """What ``up @ down`` is multiplied by in the end: strength times alpha / rank."""
        return self.strength * self.module.scale


@dataclass(frozen=True, eq=False)
class Meeting:
    """A weight that the merge changes and the LoRAs that adapt it, in input order."""

    weight: str  # canonical name
    name: str  # the first LoRA's spelling of it
    shares: tuple[Share, ...]

    @property
    def up_tail(self) -> tuple[int, ...]:
        return (1,) * (len(self.down_tail) - 1)

    @property
    def down_tail(self) -> tuple[int, ...]:
        """(in[, kh, kw]) of the result: the convolution's form where any of the LoRAs has it."""
        return max((share.module.down.shape[1:] for share in self.shares), key=len)

    def zero(self, dtype: torch.dtype) -> LoraModule:
        """The module that adds nothing: rank 1, since ComfyUI's loader has no rank 0."""
        return self.module(torch.zeros(self.rows, 1), torch.zeros(1, self.columns), dtype)

    def module(self, up: Tensor, down: Tensor, dtype: torch.dtype) -> LoraModule:
        """The result's module from its factors as matrices; alpha is the rank, so that they count as they are."""
        up, down = up.to("cpu", dtype), down.to("cpu", dtype)
        if not (torch.isfinite(up).all() and torch.isfinite(down).all()):
            raise LoraError(
                f"Merging module {self.name} gave values too large for {str(dtype).removeprefix('torch.')}. "
                "Lower the strengths or choose float32."
            )
        rank = up.shape[1]
        return LoraModule(
            self.name,
            up.reshape(self.rows, rank, *self.up_tail).contiguous(),
            down.reshape(rank, *self.down_tail).contiguous(),
            float(rank),
        )

    @property
    def rows(self) -> int:
        return self.shares[0].module.up.shape[0]

    @property
    def columns(self) -> int:
        return math.prod(self.down_tail)


def merge_factors(
    loras: Sequence[Lora],
    mode: str = "concat",
    density: float = 1.0,
    seed: int = 0,
    compute: Compute = CPU,
) -> Lora:
    """PM Merge LoRA: the mode acts on the factors, as PEFT's add_weighted_adapter does; ``concat`` is exact.

    With g = strength * alpha / rank each up counts sqrt|g| and each down sign(g) sqrt|g|, so that the strength counts
    once and keeps its sign. Raises LoraError for unknown modes, densities outside 0 to 1 and weights that disagree.
    """
    method = factor_method(mode)
    _require_density(density)
    meetings = meet(loras)
    modules = []
    for done, meeting in enumerate(meetings, 1):
        if method.consensus is None:
            modules.append(_side_by_side(meeting, compute))
        else:
            modules.append(_on_factors(meeting, method, density, seed, compute))
        compute.step(done, len(meetings))
    settings = {"mode": mode, **_settings(method, density, seed)}
    return _result("merge", settings, loras, modules, compute)


def merge_deltas(
    loras: Sequence[Lora],
    mode: str = "add_svd",
    density: float = 1.0,
    rank: int = 32,
    conv_rank: int = 0,
    seed: int = 0,
    compute: Compute = CPU,
) -> Lora:
    """PM Merge LoRA SVD: the mode acts on the deltas, and the result is cut to a rank by SVD.

    ``rank`` is for linear and 1x1 modules, ``conv_rank`` for larger kernels; 0 is the largest rank among the inputs of
    that module. Sums are exact before the cut and form no dense delta. Raises LoraError as merge_factors does.
    """
    method = delta_method(mode)
    _require_density(density)
    for name, value in (("rank", rank), ("conv rank", conv_rank)):
        if value < 0:
            raise LoraError(f"The {name} is {value}; it must be 0 (as the inputs) or more.")
    meetings = meet(loras)
    modules = []
    for done, meeting in enumerate(meetings, 1):
        wanted = conv_rank if meeting.shares[0].module.is_convolution else rank
        wanted = wanted or max(share.module.rank for share in meeting.shares)
        if _is_sum(method, density, meeting):
            modules.append(_exact_sum(meeting, wanted, compute))
        else:
            modules.append(_on_deltas(meeting, method, density, seed, wanted, compute))
        compute.step(done, len(meetings))
    settings = {
        "mode": method.name + "_svd",
        **_settings(method, density, seed),
        "rank": rank,
        "conv_rank": conv_rank,
    }
    return _result("merge_svd", settings, loras, modules, compute)


def meet(loras: Sequence[Lora]) -> list[Meeting]:
    """The weights of all LoRAs, each with those that adapt it at a strength other than 0, in order of appearance.

    Raises LoraError, before any work is done, where two LoRAs take one weight for different shapes.
    """
    shares: dict[str, list[Share]] = {}
    owners: dict[str, Lora] = {}
    for number, lora in enumerate(loras, 1):
        for module in lora.modules.values():
            strength = lora.strength_of(module)
            if not math.isfinite(strength):
                raise LoraError(
                    f"{lora.name}: the strength of module {module.name} is {strength}, not a number to use."
                )
            if strength == 0:
                continue
            weight = keys.canonical(module.name)
            present = shares.setdefault(weight, [])
            if present:
                _require_same_weight(present[0].module, owners[weight], module, lora)
            else:
                owners[weight] = lora
            present.append(Share(module, strength, number))
    return [Meeting(weight, present[0].module.name, tuple(present)) for weight, present in shares.items()]


def _require_same_weight(first: LoraModule, first_lora: Lora, second: LoraModule, second_lora: Lora) -> None:
    a, b = first.weight_shape, second.weight_shape
    flat = a[0] == b[0] and math.prod(a[1:]) == math.prod(b[1:])
    if not flat or (len(a) == len(b) and a != b):
        raise LoraError(
            f"{first_lora.name} and {second_lora.name} are not for the same model: module {first.name} adapts a weight "
            f"of shape {_shape(a)} in {first_lora.name} and {_shape(b)} in {second_lora.name}."
        )


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _require_density(density: float) -> None:
    if not 0 <= density <= 1:
        raise LoraError(f"The density is {density}; it must be between 0 and 1.")


def _settings(method: Method, density: float, seed: int) -> dict[str, object]:
    """The settings that the method looks at: the others are not part of how the result was made."""
    return {
        **({"density": density} if method.uses_density else {}),
        **({"seed": seed} if method.uses_seed else {}),
    }


def _result(
    operation: str,
    settings: dict[str, object],
    loras: Sequence[Lora],
    modules: Sequence[LoraModule],
    compute: Compute,
) -> Lora:
    name = " + ".join(lora.name for lora in loras)
    settings["dtype"] = str(compute.dtype).removeprefix("torch.")
    return Lora(
        name if len(name) <= 80 else name[:77] + "...",
        modules_by_name(modules),
        metadata=recipe.metadata(operation, settings, loras),
    )


# --- on factors ---


def _matrices(share: Share, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    module = share.module
    return module.flat_up().to(device, dtype), module.flat_down().to(device, dtype)


def _side_by_side(meeting: Meeting, compute: Compute) -> LoraModule:
    terms = [(*_matrices(share, compute.device), share.gain) for share in meeting.shares if share.gain != 0]
    if not terms:
        return meeting.zero(compute.dtype)
    return meeting.module(*lowrank.stack(terms, torch.float32), compute.dtype)


def _on_factors(meeting: Meeting, method: Method, density: float, seed: int, compute: Compute) -> LoraModule:
    ups, downs = zip(*(_matrices(share, compute.device) for share in meeting.shares), strict=True)
    roots = [math.sqrt(abs(share.gain)) for share in meeting.shares]
    signed = [math.copysign(root, share.gain) for root, share in zip(roots, meeting.shares, strict=True)]
    rank = max(share.module.rank for share in meeting.shares)
    merged = []
    for side, factors, weights in (("up", ups, roots), ("down", downs, signed)):
        sparse = []
        for share, factor in zip(meeting.shares, factors, strict=True):
            draw = Draw(seed, meeting.weight, share.number, side)
            mask = _whole_mask(factor, method, density, draw)
            # pruned at the LoRA's own rank, then padded to the largest
            missing = rank - share.module.rank
            sparse.append(
                torch.nn.functional.pad(mask, (0, missing) if side == "up" else (0, 0, 0, missing)) if missing else mask
            )
        assert method.consensus is not None
        merged.append(method.consensus(sparse, weights))
        compute.check()
    up, down = merged
    if not up.any() or not down.any():
        return meeting.zero(compute.dtype)
    return meeting.module(up, down, compute.dtype)


def _whole_mask(factor: Tensor, method: Method, density: float, draw: Draw) -> Tensor:
    mask = method.sparsify(lambda: iter((factor,)), factor.numel(), density, draw)
    return mask(factor, 0)


# --- on deltas ---


def _is_sum(method: Method, density: float, meeting: Meeting) -> bool:
    """Whether the mode comes to the plain weighted sum here, which has an exact low-rank form."""
    keeps_all = method.sparsify is keep_all or density >= 1
    return keeps_all and (method.consensus is weighted_sum or len(meeting.shares) == 1)


def _exact_sum(meeting: Meeting, rank: int, compute: Compute) -> LoraModule:
    device = compute.float64_device
    terms = [(*_matrices(share, device, torch.float64), share.gain) for share in meeting.shares if share.gain != 0]
    if not terms:
        return meeting.zero(compute.dtype)
    best = lowrank.truncate_product(*lowrank.stack(terms, torch.float64), lowrank.fixed_rank(rank))
    return meeting.zero(compute.dtype) if best is None else meeting.module(best.up, best.down, compute.dtype)


def _on_deltas(meeting: Meeting, method: Method, density: float, seed: int, rank: int, compute: Compute) -> LoraModule:
    dense = _merged_delta(meeting, method, density, seed, compute)
    rank = min(rank, meeting.rows, meeting.columns)
    # the unmasked sum has much the same dominant directions, and its factors are at hand
    start = _dominant_columns(meeting, rank, compute)
    spare = max(MIN_OVERSAMPLING, rank // 2) + rank - start.shape[1]
    noise = _noise(meeting.rows, spare, Draw(seed, meeting.weight, 0, "start")).to(compute.device)
    best = lowrank.truncate_dense(dense, rank, start, noise, compute.check)
    return meeting.zero(compute.dtype) if best is None else meeting.module(best.up, best.down, compute.dtype)


def _merged_delta(meeting: Meeting, method: Method, density: float, seed: int, compute: Compute) -> Tensor:
    """The merged delta as a dense float32 matrix; besides it only the magnitudes of one input stand in memory whole."""
    n = meeting.rows * meeting.columns
    factors = [_matrices(share, compute.device) for share in meeting.shares]
    factors = [(up * share.module.scale, down) for share, (up, down) in zip(meeting.shares, factors, strict=True)]
    masks: list[Mask] = []
    for share, (up, down) in zip(meeting.shares, factors, strict=True):

        def blocks(up: Tensor = up, down: Tensor = down) -> Iterator[Tensor]:
            for start, stop in lowrank.row_blocks(meeting.rows, meeting.columns):
                compute.check()
                yield up[start:stop] @ down

        masks.append(method.sparsify(blocks, n, density, Draw(seed, meeting.weight, share.number, "delta")))
    weights = [share.strength for share in meeting.shares]
    dense = torch.empty(meeting.rows, meeting.columns, dtype=torch.float32, device=compute.device)
    assert method.consensus is not None
    for start, stop in lowrank.row_blocks(meeting.rows, meeting.columns):
        compute.check()
        parts = [
            mask(up[start:stop] @ down, start * meeting.columns)
            for mask, (up, down) in zip(masks, factors, strict=True)
        ]
        dense[start:stop] = method.consensus(parts, weights)
    if not torch.isfinite(dense).all():
        raise LoraError(f"Merging module {meeting.name} gave values too large for float32. Lower the strengths.")
    return dense


def _dominant_columns(meeting: Meeting, rank: int, compute: Compute) -> Tensor:
    ups = []
    for share in meeting.shares:
        up, down = _matrices(share, compute.device)
        best = lowrank.truncate_product(up.cpu(), down.cpu(), lowrank.fixed_rank(rank))
        if best is not None:
            ups.append((best.up * math.sqrt(abs(share.gain))).float())
    if not ups:
        return torch.zeros(meeting.rows, 0, device=compute.device)
    columns = torch.cat(ups, 1)
    strongest = torch.linalg.vector_norm(columns, dim=0).argsort(descending=True, stable=True)[:rank]
    return columns[:, strongest].to(compute.device)


def _noise(rows: int, columns: int, draw: Draw) -> Tensor:
    """Random columns for the subspace search, the same on every device; signs do as well as Gaussians there."""
    signs = torch.from_numpy((draw.integers(0, rows * columns) & 1).astype("float32"))
    return (signs * 2 - 1).reshape(rows, columns)
