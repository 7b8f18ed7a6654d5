"""Running out of device memory, and how much memory the largest module takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.resize import resize
from lora_pack.merge.models.extract import extract
from lora_pack.tests.cuda.gpu import Gpu
from lora_pack.tests.cuda.results import left_to_cpu
from lora_pack.tests.support.families import State, named, normal
from lora_pack.tests.support.makers import down_of, up_of
from safetensors.torch import save_file

# The largest weight of SDXL.
ROWS, COLUMNS = 10240, 1280
NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj"
KEY = "middle_block.1.transformer_blocks.0.ff.net.0.proj"


@dataclass
class MemoryCheck:
    what: str
    good: bool
    seen: str


def lora(seed: int, rank: int = 32) -> State:
    return named(NAME, lora_up__weight=normal(seed, ROWS, rank), lora_down__weight=normal(seed + 1, rank, COLUMNS))


def difference(seed: int) -> State:
    return named(NAME, diff=normal(seed, ROWS, COLUMNS))


def model(path: Path, seed: int) -> Path:
    """A model file of one weight."""
    save_file({f"model.diffusion_model.{KEY}.weight": normal(seed, ROWS, COLUMNS)}, path)
    return path


def read(states: list[State]) -> list[Lora]:
    return [from_state_dict(state, f"lora{number}") for number, state in enumerate(states, 1)]


def ties(loras: list[Lora], compute: Compute) -> Lora:
    return merge_deltas(loras, "ties_svd", 0.5, 32, compute=compute)


def checks(gpu: Gpu) -> list[MemoryCheck]:
    kind, found = gpu.device.type, []
    if gpu.can_measure_peak:
        found += check_peaks(gpu)
    else:
        found.append(MemoryCheck("peak memory", True, f"not measured: torch can't on {kind}"))
    if gpu.can_limit:
        found += [check_full(gpu), check_freed(gpu)]
    else:
        found.append(MemoryCheck("running out of memory", True, f"not tried: torch can't limit the memory of {kind}"))
    return found


def check_full(gpu: Gpu) -> MemoryCheck:
    """Only half of a delta fits: the module is computed on the CPU, with the CPU's result to the last bit."""
    loras = read([lora(1), lora(3)])
    asked: list[int] = []
    gpu.limit(ROWS * COLUMNS * 2)
    try:
        with left_to_cpu() as said:
            found = ties(loras, Compute(gpu.device, make_room=asked.append))
    finally:
        gpu.limit(None)
    same = _bytes(found) == _bytes(ties(loras, Compute()))
    good = same and len(said) == 1 and len(asked) == 2
    return MemoryCheck(
        "a device that stays full", good, f"{_said(said)}, {'the same as' if same else 'NOT'} the CPU's result"
    )


def check_freed(gpu: Gpu) -> MemoryCheck:
    """Nearly all memory is taken until the second call of make_room, after which the device does the work."""
    loras = read([lora(1), lora(3)])
    allowed = 2 * 2**30
    gpu.limit(allowed)
    ballast: list[torch.Tensor] = []
    asked: list[int] = []

    def make_room(needed: int) -> None:
        asked.append(needed)
        if len(asked) == 2:
            ballast.clear()
            gpu.limit(allowed)  # empties torch's cache too

    try:
        ballast.append(torch.empty(allowed - 96 * 2**20, dtype=torch.uint8, device=gpu.device))
        with left_to_cpu() as said:
            ties(loras, Compute(gpu.device, make_room=make_room))
    finally:
        ballast.clear()
        gpu.limit(None)
    return MemoryCheck(
        "a device whose memory is freed in time",
        len(asked) == 2 and not said,
        f"asked {len(asked)} times, {_said(said)}",
    )


def check_peaks(gpu: Gpu) -> list[MemoryCheck]:
    """The peak memory of the largest module against what the host is asked to free."""
    works: dict[str, Callable[[Compute], object]] = {
        "ties_svd of 2 LoRAs": lambda compute: ties(read([lora(1), lora(3)]), compute),
        "ties_svd of 4 full differences": lambda compute: ties(read([difference(n) for n in range(4)]), compute),
        "add_svd of 2 LoRAs": lambda compute: merge_deltas(
            read([lora(1), lora(3)]), "add_svd", 1.0, 32, compute=compute
        ),
        "karcher_svd of 4 full differences": lambda compute: merge_deltas(
            read([difference(n) for n in range(4)]), "karcher_svd", 1.0, 32, compute=compute
        ),
        "resize of a full difference": lambda compute: resize(read([difference(1)])[0], 32, compute=compute),
        "extract": lambda compute: extract(*models, 32, compute=compute),
        "extract by sv_cumulative": lambda compute: extract(*models, 32, 0, "sv_cumulative", 0.5, compute),
    }
    with tempfile.TemporaryDirectory() as folder:
        models = [model(Path(folder) / f"{seed}.safetensors", seed) for seed in (1, 2)]
        return [_check_peak(gpu, f"{name}, {ROWS} x {COLUMNS}", work) for name, work in works.items()]


def _check_peak(gpu: Gpu, name: str, work: Callable[[Compute], object]) -> MemoryCheck:
    asked: list[int] = []
    work(Compute(gpu.device))  # so that the libraries' own memory is not measured
    most = gpu.peak(lambda: work(Compute(gpu.device, make_room=asked.append)))
    assert most is not None
    return MemoryCheck(f"memory of {name}", most <= 1.25 * max(asked), f"{_mb(most)}, {_mb(max(asked))} asked for")


def _bytes(found: Lora) -> list[bytes]:
    tensors = (tensor for module in found.modules.values() for tensor in (up_of(module), down_of(module)))  # type: ignore[attr-defined]
    return [tensor.numpy().tobytes() for tensor in tensors]


def _said(said: list[str]) -> str:
    return said[0] if said else "nothing left to the CPU"


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
