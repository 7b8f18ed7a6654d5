"""Where a weight lies in its model: its block, named as in block weights (lbw), and its role in the block."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..adapters.architecture import architectures_of
from ..adapters.base import Lora
from ..block_weights.layouts import BASE, LAYOUTS
from ..merging.key_resolver import KeyResolver
from ..names import resolve
from ..names.roles import role_of

# A numbered layer in the path of a text encoder.
_LAYER = re.compile(r"(?:^|_)(?:blocks?|layers?|h)_([0-9]{1,4})(?:_|$)")
# A block in the path of a model without a known layout: numbered, or the middle of a U-Net.
_BLOCK = re.compile(r"^(?:([a-z]+)_)?(?:[a-z]+_)*?(?:blocks?|layers?)_?([0-9]{1,4})(?:_|$)|^(mid)(?:dle)?_block_")


@dataclass(frozen=True)
class Place:
    """``group`` and ``number`` make up the block: IN 4, DOUBLE 0, MID (no number), BASE (outside the blocks), TE1 3.

    ``order`` sorts the blocks as they are in the model, text encoders last.
    """

    group: str
    number: int | None
    role: str
    order: tuple[int, int, int]
    is_text_encoder: bool = False

    @property
    def block(self) -> str:
        """The block's name: that of block weights (IN04, MID, DOUBLE00); TE1-03 for a text encoder's layer."""
        if self.number is None:
            return self.group
        return f"{self.group}-{self.number:02}" if self.is_text_encoder else f"{self.group}{self.number:02}"


def places_in(lora: Lora, resolver: KeyResolver) -> Callable[[str], Place]:
    """A function that finds the place of a module by its name."""
    groups: dict[str, int] = {}  # of an unknown model, in order of appearance
    architecture = resolver.naming or resolver.architecture or next(iter(architectures_of(lora)), None)
    layout = next((layout for layout in LAYOUTS if architecture in layout.architectures), None)

    def place(name: str) -> Place:
        # the tables decide here even where they don't decide a merge: a wrong guess only misplaces a cell
        target = resolve(name, architecture)
        component, _, path = target.weight.partition(":")
        if component != "model":
            return _in_text_encoder(component, path)
        block = layout.block_of(path) if layout is not None else None
        if layout is not None and block is not None:
            order = layout.full.index(block)
            group = block.rstrip("0123456789")
            number = int(block[len(group) :]) if group != block else None
            return Place(group, number, role_of(path), (0, order, 0))
        found = _BLOCK.match(path) if layout is None else None
        if found is None:
            return Place(BASE, None, role_of(path), (-1, 0, 0))
        group, number = _unknown_block(found)
        return Place(group, number, role_of(path), (1, groups.setdefault(group, len(groups)), number or 0))

    return place


def _in_text_encoder(component: str, path: str) -> Place:
    group = component.upper()
    match = _LAYER.search(path)
    number = int(match.group(1)) if match else None
    encoder = int(component[2:] or 0)
    return Place(group, number, role_of(path), (2, encoder, -1 if number is None else number), True)


def _unknown_block(match: re.Match[str]) -> tuple[str, int | None]:
    """The group and the number: DOWN and 0 for `down_blocks_0_...`, BLOCK and 3 for `blocks_3_...`."""
    word, number, middle = match.groups()
    return (middle.upper(), None) if middle else ((word or "block").upper(), int(number))
