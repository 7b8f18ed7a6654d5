"""Merges with this pack, as `python -m merge` does them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from merge.adapters.base import Lora, LoraModule
from merge.compute.context import Compute
from merge.files import load, save
from merge.merging.key_resolver import resolver_for
from merge.merging.matching import group_by_weight
from merge.merging.merge_deltas import merge_deltas
from merge.merging.merge_factors import merge_factors
from merge.merging.resize import resize
from merge.methods.blocked_matrix import Block, in_blocks
from merge.methods.kernels import Settings
from merge.methods.mask_stream import MaskStream
from merge.methods.sparsify import dropout_rescale, kept_count

from .inputs import Module, strength
from .works import Setting, Work

NAME = "this pack"


def read(files: Sequence[Path], work: Work) -> list[Lora]:
    if work.kind == "resize":
        return [load(files[0])]
    return [load(file).with_strengths(strength(n), strength(n)) for n, file in enumerate(files, 1)]


def merged(
    work: Work, loras: Sequence[Lora], setting: Setting, progress: Callable[[int, int], None] | None = None
) -> Lora:
    compute = Compute(torch.device(setting.device), setting.torch_dtype)
    if progress is not None:
        compute = replace(compute, progress=progress)
    if work.kind == "resize":
        return resize(loras[0], setting.rank, compute=compute)
    if work.kind == "deltas":
        mode = work.mode + "_svd"
        rank = setting.rank
        return merge_deltas(loras, mode, setting.density, rank, rank, setting.seed, compute)
    mode = "concat" if work.kind == "concat" else work.mode
    return merge_factors(loras, mode, setting.density, setting.seed, compute)


def load_to_save(work: Work, files: Sequence[Path], out: Path, setting: Setting) -> None:
    save(merged(work, read(files, work), setting), out, overwrite=True)


def only(loras: Sequence[Lora], names: Sequence[str]) -> list[Lora]:
    return [replace(lora, modules={n: lora.modules[n] for n in names if n in lora.modules}) for lora in loras]


def as_loras(module: Module) -> list[Lora]:
    """A module's terms as LoRAs, at their strengths."""
    loras = []
    for term in module.terms:
        adapter = LoraModule.of(module.name, term.up, term.down, term.scale * term.up.shape[1])
        loras.append(Lora(str(term.input_index), {module.name: adapter}).with_strengths(term.strength, term.strength))
    return loras


def factors(work: Work, module: Module, setting: Setting) -> tuple[Tensor, Tensor]:
    """The result for one module: its delta is up @ down."""
    (result,) = merged(work, as_loras(module), setting).modules.values()
    assert isinstance(result, LoraModule)
    up, down = result.factors()
    return up.double() * result.scale, down.double()


def largest(values: Tensor, density: float) -> Tensor:
    """Mask of the largest magnitudes, ties broken by position. Implemented independently of the core."""
    magnitudes = values.abs().flatten()
    k = kept_count(density, magnitudes.numel())
    if k == 0:
        return torch.zeros_like(values)
    least = magnitudes.kthvalue(magnitudes.numel() - k + 1).values
    above, tied = magnitudes > least, magnitudes == least
    first = tied & (tied.cumsum(0) <= k - int(above.sum()))
    return (above | first).reshape(values.shape).to(values.dtype)


def masks(work: Work, module: Module, setting: Setting) -> Callable[[Tensor, int, str], Tensor]:
    """The masks the core applies to a term: (values, input index, "up", "down" or "delta") -> mask."""
    loras = as_loras(module)
    (group,) = group_by_weight(loras, resolver_for(loras))
    index_in_merge = {term.input_index: n for n, term in enumerate(module.terms, 1)}  # input indices as in factors()

    def mask(values: Tensor, input_index: int, side: str) -> Tensor:
        if work.mode != "dare_linear":
            return largest(values, setting.density)
        stream = MaskStream(setting.seed, group.weight, index_in_merge[input_index], side)
        ones = torch.ones(values.shape, dtype=torch.float64)
        return dropout_rescale(in_blocks(ones), Settings(setting.density), stream)(Block(ones))

    return mask
