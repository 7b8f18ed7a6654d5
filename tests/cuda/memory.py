"""A device with too little memory, and how much the largest module takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lora_pack.merge.adapters.base import Lora
from lora_pack.merge.compute.context import Compute
from lora_pack.merge.formats import from_state_dict
from lora_pack.merge.merging.merge_deltas import merge_deltas
from lora_pack.merge.merging.resize import resize
from lora_pack.tests.cuda.card import Card
from lora_pack.tests.cuda.results import left_to_cpu
from lora_pack.tests.support.families import State, named, normal
from lora_pack.tests.support.makers import down_of, up_of

# The largest weight of SDXL.
ROWS, COLUMNS = 10240, 1280
NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj"


@dataclass
class CancelCheck:
    what: str
    good: bool
    seen: str


def lora(seed: int, rank: int = 32) -> State:
    return named(NAME, lora_up__weight=normal(seed, ROWS, rank), lora_down__weight=normal(seed + 1, rank, COLUMNS))


def difference(seed: int) -> State:
    return named(NAME, diff=normal(seed, ROWS, COLUMNS))


def read(states: list[State]) -> list[Lora]:
    return [from_state_dict(state, f"lora{number}") for number, state in enumerate(states, 1)]


def ties(loras: list[Lora], compute: Compute) -> Lora:
    return merge_deltas(loras, "ties_svd", 0.5, 32, compute=compute)


def checks(card: Card) -> list[CancelCheck]:
    kind, found = card.device.type, []
    if card.can_tell_peak:
        found += peaks(card)
    else:
        found.append(CancelCheck("the most memory taken", True, f"not measured: torch doesn't know it of {kind}"))
    if card.can_limit:
        found += [stays_full(card), is_given_room(card)]
    else:
        found.append(CancelCheck("memory that runs out", True, f"not tried: torch can't limit the memory of {kind}"))
    return found


def stays_full(card: Card) -> CancelCheck:
    """Half of a delta is all that fits: the CPU does it, and its result is the CPU's to the last bit."""
    loras = read([lora(1), lora(3)])
    asked: list[int] = []
    card.limit(ROWS * COLUMNS * 2)
    try:
        with left_to_cpu() as said:
            found = ties(loras, Compute(card.device, make_room=asked.append))
    finally:
        card.limit(None)
    same = _bytes(found) == _bytes(ties(loras, Compute()))
    good = same and len(said) == 1 and len(asked) == 2
    return CancelCheck(
        "a device that stays full", good, f"{_said(said)}, {'the same as' if same else 'NOT'} the CPU's result"
    )


def is_given_room(card: Card) -> CancelCheck:
    """Nearly all memory is taken; it is free after the second call for room, so the device does it after all."""
    loras = read([lora(1), lora(3)])
    allowed = 2 * 2**30
    card.limit(allowed)
    ballast: list[torch.Tensor] = []
    asked: list[int] = []

    def make_room(needed: int) -> None:
        asked.append(needed)
        if len(asked) == 2:
            ballast.clear()
            card.limit(allowed)  # empties torch's cache too

    try:
        ballast.append(torch.empty(allowed - 96 * 2**20, dtype=torch.uint8, device=card.device))
        with left_to_cpu() as said:
            ties(loras, Compute(card.device, make_room=make_room))
    finally:
        ballast.clear()
        card.limit(None)
    return CancelCheck(
        "a device that is given room", len(asked) == 2 and not said, f"asked {len(asked)} times, {_said(said)}"
    )


def peaks(card: Card) -> list[CancelCheck]:
    """The most memory that the largest module takes, beside what the host is asked for."""
    works: dict[str, Callable[[Compute], object]] = {
        "ties_svd of 2 LoRAs": lambda compute: ties(read([lora(1), lora(3)]), compute),
        "ties_svd of 4 full differences": lambda compute: ties(read([difference(n) for n in range(4)]), compute),
        "add_svd of 2 LoRAs": lambda compute: merge_deltas(
            read([lora(1), lora(3)]), "add_svd", 1.0, 32, compute=compute
        ),
        "resize of a full difference": lambda compute: resize(read([difference(1)])[0], 32, compute=compute),
    }
    found = []
    for name, work in works.items():
        asked: list[int] = []
        work(Compute(card.device))  # what the libraries keep for themselves is there from now on
        most = card.peak(lambda work=work, asked=asked: work(Compute(card.device, make_room=asked.append)))
        assert most is not None
        good = most <= 1.25 * max(asked)
        found.append(
            CancelCheck(f"memory of {name}, {ROWS} x {COLUMNS}", good, f"{_mb(most)} of {_mb(max(asked))} asked for")
        )
    return found


def _bytes(found: Lora) -> list[bytes]:
    tensors = (tensor for module in found.modules.values() for tensor in (up_of(module), down_of(module)))  # type: ignore[attr-defined]
    return [tensor.numpy().tobytes() for tensor in tensors]


def _said(said: list[str]) -> str:
    return said[0] if said else "nothing left to the CPU"


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
