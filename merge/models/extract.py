"""Extracting: the difference of two models as a LoRA, each weight's truncated to a rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..adapters.base import Adapter, Difference, Lora, by_key
from ..adapters.combine import low_rank, shape_text
from ..compute.context import CPU, Compute, attempt
from ..compute.devices import on_cpu, on_device, orthonormal
from ..compute.precision import full_precision
from ..errors import LoraError
from ..io.safetensors_file import StoredTensor, read
from ..merging.resize import rank_rule
from ..merging.subspace_start import MIN_OVERSAMPLING, random_signs
from ..methods.mask_stream import MaskStream
from ..names import RowRange, compatible
from ..numerics.buffers import Arena
from ..numerics.dense_svd import SMALLEST_FLOAT, truncate_dense, truncate_dense_by_rule, truncation_bytes
from ..numerics.finite import require_fits
from ..numerics.rank_rules import RankRule, ratio_rank
from ..numerics.truncated import Truncated, energy
from ..provenance import recipe
from .model_file import ModelFile, Part, matrix_shape, read_model, with_names_of
from .quantised import NOT_WEIGHTS, scale_of

# Iterations before truncate_dense measures the gain of one. The singular values of a tuned model's difference fall so
# slowly that from random columns it would stop at 1.012 of the least possible error; with these it stops at 1.004.
POWER_STEPS = 2
# The weight, its parameter and its rows: the same for both files, whatever they call it.
Place = tuple[str, str, RowRange, bool]


@dataclass(frozen=True)
class Pair:
    """A parameter that both files have: its name, and where each has it."""

    name: str
    tuned: tuple[str, Part]
    base: tuple[str, Part]


@full_precision()
def extract(
    tuned_path: Path,
    base_path: Path,
    rank: int,
    conv_rank: int = 0,
    method: str = "fixed",
    value: float = 0.9,
    compute: Compute = CPU,
) -> Lora:
    """The LoRA that makes the tuned model of the base one: W_tuned - W_base of each weight, truncated by SVD.

    ``rank``, ``conv_rank``, ``method`` and ``value`` are those of ``resize``; conv_rank 0 is ``rank``. No module gets a
    higher rank than its difference has. Biases, norms and bare parameters become full differences, equal parameters are
    left out. Both files may be checkpoints or diffusion models; what only one of them has is left out and named.
    ``compute.report_truncation`` gets the squared norms of each truncated weight.

    The error of a weight is at most 1.01 of the least possible at its rank; for sv_cumulative it is the least possible.
    Raises LoraError if the models are of different kinds or shapes, are equal, or have quantised weights that differ.
    """
    conv_rank = conv_rank or rank
    rules = {True: _Rule(method, value, conv_rank), False: _Rule(method, value, rank)}
    tuned, base = _same_kind(read_model(Path(tuned_path)), read_model(Path(base_path)))
    pairs, notes = _pairs(tuned, base)
    needs = [_bytes_needed(tuned.tensors[pair.tuned[0]].shape) for pair in pairs]
    if compute.device.type != "cpu":
        compute.make_room(max(needs))
    arena, modules = Arena(), []
    for done, (pair, needed) in enumerate(zip(pairs, needs, strict=True), 1):
        module = attempt(compute, f"module {pair.name}", needed, partial(_module, tuned, base, pair, rules, arena))
        modules += [] if module is None else [module]
        compute.step(done, len(pairs))
    if not modules:
        raise LoraError(f"{tuned.name} and {base.name} have the same weights: there is no difference to extract.")
    settings: dict[str, object] = {"rank": rank, "conv_rank": conv_rank, "method": method}
    settings |= {} if method == "fixed" else {"value": value}
    settings["dtype"] = str(compute.dtype).removeprefix("torch.")
    inputs = [recipe.input_of_model(model.name, model.size, model.metadata) for model in (tuned, base)]
    return Lora(
        f"{tuned.path.stem} - {base.path.stem}",
        by_key(modules),
        metadata={"format": "pt", recipe.KEY: recipe.of_inputs("extract", settings, inputs)},
        architecture=tuned.architecture,
        notes=tuple(notes),
    )


class _Rule:
    """How a difference is truncated: a method of ``resize`` with its value and the largest rank."""

    def __init__(self, method: str, value: float, most: int) -> None:
        self._rule: RankRule = rank_rule(method, value, most)
        self._method, self._value, self._most = method, value, most

    def truncated(self, dense: Tensor, name: str, compute: Compute) -> Truncated | None:
        if self._method == "sv_cumulative":  # needs the sum of all singular values
            return truncate_dense_by_rule(dense, self._rule, compute.check)
        start = _start(dense, min(self._most, *dense.shape), name, compute)
        best = truncate_dense(dense, self._most, start, start[:, :0], compute.check)
        return best if best is None or self._method == "fixed" else self._shortened(best)

    def _shortened(self, best: Truncated) -> Truncated:
        """The same at the rank that the method picks; its criterion takes only the largest singular values."""
        values = best.up.double().square().sum(0)  # the factors are balanced
        if self._method == "sv_ratio":
            rank = ratio_rank(self._value, self._most)(values)
        else:
            kept = values.square().cumsum(0)
            rank = min(int((kept < self._value**2 * best.total * (1 - 1e-12)).sum()) + 1, len(values))
        return Truncated(best.up[:, :rank], best.down[:rank], energy(values[:rank]), best.total)


def _start(dense: Tensor, rank: int, name: str, compute: Compute) -> Tensor:
    """Columns near the dominant left subspace of a dense (m, n) matrix: random ones after POWER_STEPS iterations."""
    columns = random_signs(dense.shape[0], rank + max(MIN_OVERSAMPLING, rank // 2), MaskStream(0, name, 0, "start"))
    columns = columns.to(dense.device)
    if 3 * columns.shape[1] >= min(dense.shape):
        return columns  # so many that truncate_dense takes another route
    for _ in range(POWER_STEPS):
        compute.check()
        image = dense.mT @ columns
        columns = orthonormal(dense @ (image / max(float(torch.linalg.vector_norm(image)), SMALLEST_FLOAT)))
    return columns


def _same_kind(tuned: ModelFile, base: ModelFile) -> tuple[ModelFile, ModelFile]:
    """Both files by the names of one architecture. Raises LoraError if they are of different kinds."""
    ours, theirs = tuned.architecture, base.architecture
    if ours is not None and theirs is not None and not compatible(ours, theirs):
        raise LoraError(
            f"{tuned.name} is {ours.name}, but {base.name} is {theirs.name}. Choose two models of the same kind."
        )
    architecture = ours or theirs
    return with_names_of(tuned, architecture), with_names_of(base, architecture)


def _pairs(tuned: ModelFile, base: ModelFile) -> tuple[list[Pair], list[str]]:
    """The parameters that both files have, in the order of the tuned one, and notes on those that one lacks."""
    ours, theirs = _places(tuned), _places(base)
    pairs = [Pair(one[1].stored.name, one, theirs[place]) for place, one in ours.items() if place in theirs]
    if not pairs:
        raise LoraError(f"{tuned.name} and {base.name} have no weight in common. Choose two models of the same kind.")
    notes = []
    for model, other, here, there in ((tuned, base, ours, theirs), (base, tuned, theirs, ours)):
        alone = list(dict.fromkeys(key for place, (key, _) in here.items() if place not in there))
        if alone:
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            notes.append(f"Only {model.name} has {alone[0]}{more}, and {other.name} doesn't: left out.")
    return pairs, notes


def _places(model: ModelFile) -> dict[Place, tuple[str, Part]]:
    found: dict[Place, tuple[str, Part]] = {}
    for key, parts in model.parts.items():
        for part in parts:
            if _is_parameter(model.tensors, key):
                found[(*part.weight, part.target.rows, part.target.swapped)] = key, part
    return found


def _is_parameter(tensors: Mapping[str, StoredTensor], key: str) -> bool:
    """Whether a key is a parameter and not a number of a quantised layer or an index."""
    return not key.endswith((*NOT_WEIGHTS, "position_ids")) and 0 not in tensors[key].shape


def _module(
    tuned: ModelFile, base: ModelFile, pair: Pair, rules: Mapping[bool, _Rule], arena: Arena, compute: Compute
) -> Adapter | None:
    """The module of one parameter; None if the files have the same."""
    key, part = pair.tuned
    shape = _shape(tuned, *pair.tuned)
    if shape != _shape(base, *pair.base):
        raise LoraError(
            f"{key} has shape {shape_text(shape)} in {tuned.name} and {shape_text(_shape(base, *pair.base))} in "
            f"{base.name}. Choose two models of the same kind."
        )
    difference = _difference(tuned, base, pair)
    if difference is None:
        return None
    require_fits(difference, f"{pair.name}: the difference of the two models")
    name, parameter = part.stored.name, part.stored.parameter
    if len(shape) < 2 or not _is_layer(key):
        value = on_cpu(difference.reshape(shape), compute.dtype)
        require_fits(value, f"Module {name}")
        return Difference.of(name, arena.copy(value), parameter)
    dense = on_device(difference, compute.device)
    del difference
    best = rules[math.prod(shape[2:]) > 1].truncated(dense, name, compute)
    if best is None:
        return None
    up, down = on_cpu(best.up, compute.dtype), on_cpu(best.down, compute.dtype)
    require_fits(up, f"Module {name}")
    require_fits(down, f"Module {name}")
    compute.report_truncation(best.kept, best.total)
    return low_rank(name, arena.copy(up.contiguous()), arena.copy(down.contiguous()), shape)


def _bytes_needed(shape: Sequence[int]) -> int:
    """About the most memory that a parameter takes: both models' and the difference, or that and its truncation."""
    elements, rows = math.prod(shape), shape[0] if shape else 1
    return max(12 * elements, 4 * elements + truncation_bytes(rows, elements // max(1, rows)))


def _is_layer(key: str) -> bool:
    """Whether a tensor is a layer's weight; low-rank modules of bare parameters are more than some loaders take."""
    return key.endswith(("weight", "text_projection"))


def _shape(model: ModelFile, key: str, part: Part) -> tuple[int, ...]:
    """The shape of the parameter that a part of a stored tensor holds."""
    whole = model.tensors[key].shape
    if part.stored.transposed:
        whole = (whole[1], whole[0])
    return (int(whole[0] * part.stored.rows.size), *whole[1:]) if whole else whole


def _difference(tuned: ModelFile, base: ModelFile, pair: Pair) -> Tensor | None:
    """Tuned minus base in float32, as a matrix (rows, columns) or a vector; None if they are equal."""
    (ours, scale), (theirs, other_scale) = (
        _stored(model, *at) for model, at in ((tuned, pair.tuned), (base, pair.base))
    )
    if ours.dtype == theirs.dtype and scale == other_scale and _same_bytes(ours, theirs):
        return None
    for model, at in ((tuned, pair.tuned), (base, pair.base)):
        scale_of(model, at[0])  # refuses other quantised weights
    difference = ours.float() * scale if scale != 1 else ours.to(torch.float32, copy=True)
    difference -= theirs.float() * other_scale if other_scale != 1 else theirs
    return difference if bool(difference.any()) else None


def _stored(model: ModelFile, key: str, part: Part) -> tuple[Tensor, float]:
    """The values of a parameter as a matrix or vector, and the scale that they are multiplied by."""
    stored = model.tensors[key]
    scaled = scale_of(model, key) if stored.dtype.is_floating_point else None
    rows = part.stored.rows
    if part.stored.transposed:
        tensor = read([stored])[0].mT.contiguous()
    elif len(stored.shape) == 0:
        tensor = read([stored])[0]
    else:
        first, last = (int(stored.shape[0] * edge) for edge in (rows.start, rows.stop))
        tensor = read([stored.rows(first, last)])[0]
    if tensor.ndim > 1:
        tensor = tensor.reshape(matrix_shape(tuple(tensor.shape)))
    return tensor, 1.0 if scaled is None else scaled.scale


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def counted(lora: Lora) -> Iterator[str]:
    """``264 modules of rank 4 to 64``, ``12 differences``: what an extracted LoRA holds."""
    ranks = sorted(module.rank for module in lora.modules.values() if module.has_factors)
    differences = len(lora.modules) - len(ranks)
    if ranks:
        spread = f"{ranks[0]} to {ranks[-1]}" if ranks[0] != ranks[-1] else str(ranks[0])
        yield f"{len(ranks)} modules of rank {spread}"
    if differences:
        yield f"{differences} differences of biases and norms"
