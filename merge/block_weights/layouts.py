"""Which block of its model a module lies in, and what block weights (lbw) call the blocks.

Paths are those of ComfyUI's own model with underscores, as names.target gives them for every spelling. IN, MID
and OUT count a U-Net's blocks as that model does (input_blocks, middle_block, output_blocks), DOUBLE and SINGLE those
of Flux and its relatives; where the blocks stand in one row each is a BLOCK. What lies in no such list is BASE: the
text encoders, what comes before and after the blocks, the refiners of Lumina 2 and Z-Image, the side branches of Wan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..names import ARCHITECTURES, Architecture
from ..names.patterns import flat

BASE = "BASE"

# What begins like this lies in a block of some model.
_BLOCK_PATH = re.compile(r"mid_block_|[a-z_]*(blocks?_|_block|layers_)[0-9]+(_|$)")
_NUMBERED = re.compile(r"([a-z_]+?)(?:_|(?<=_block))([0-9]{1,9})(?:_|$)")
_UNET_ATTENTION = re.compile(r"(?:(?:in|out)put_blocks_[0-9]+|middle_block)_1_(?:norm|proj_in|proj_out|transformer_)")


@dataclass(frozen=True)
class Family:
    """The blocks of architectures that have the same.

    ``roots`` are the lists of blocks by their path, with what their blocks are called. ``short`` and ``full`` are the
    two layouts that a vector of block weights may have; one and the same where there is only one. ``attention``, where
    the short layout is of the blocks that carry attention, fits the paths of what lies in their attention.
    """

    name: str
    architectures: tuple[Architecture, ...]
    roots: Mapping[str, str]
    short: tuple[str, ...]
    full: tuple[str, ...]
    attention: re.Pattern[str] | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """What the `%` form calls the blocks."""
        return tuple(group.lower() for group in self.roots.values())

    def block_of(self, path: str) -> str | None:
        """The block that a path of ComfyUI's model lies in; None for one that lies in none."""
        match = _NUMBERED.match(path)
        group = self.roots.get(match.group(1)) if match else None
        if match is None or group is None:
            return None
        numbered = f"{group}{int(match.group(2)):02}"
        return next((block for block in (numbered, group) if block in self.full), None)

    def is_attention(self, path: str) -> bool:
        return self.attention is not None and self.attention.match(path) is not None


def names_a_block(path: str) -> bool:
    """Whether the path begins as those of a model's blocks do, whichever model's."""
    return _BLOCK_PATH.match(path) is not None


def _numbered(group: str, numbers: range | tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{group}{i:02}" for i in numbers)


def _unet(name: str, blocks: int, inputs: tuple[int, ...], outputs: tuple[int, ...], *architectures: str) -> Family:
    """``inputs`` and ``outputs``: the blocks that carry attention, of ``blocks`` on each side."""
    return Family(
        name,
        _called(architectures or (name,)),
        {"input_blocks": "IN", "middle_block": "MID", "output_blocks": "OUT"},
        short=(BASE, *_numbered("IN", inputs), "MID", *_numbered("OUT", outputs)),
        full=(BASE, *_numbered("IN", range(blocks)), "MID", *_numbered("OUT", range(blocks))),
        attention=_UNET_ATTENTION,
    )


def _in_one_row(name: str, *architectures: str) -> Family:
    found = _called(architectures or (name,))
    ((root, count),) = found[0].blocks.items()
    layout = (BASE, *_numbered("BLOCK", range(count)))
    return Family(name, found, {root: "BLOCK"}, layout, layout)


def _double_and_single(name: str, *architectures: str) -> Family:
    found = _called(architectures or (name,))
    double, single = found[0].blocks["double_blocks"], found[0].blocks["single_blocks"]
    short = (BASE, *_numbered("DOUBLE", range(double)))
    roots = {"double_blocks": "DOUBLE", "single_blocks": "SINGLE"} if single else {"double_blocks": "DOUBLE"}
    return Family(name, found, roots, short, (*short, *_numbered("SINGLE", range(single))))


def _called(names: tuple[str, ...]) -> tuple[Architecture, ...]:
    by_name = {architecture.name: architecture for architecture in ARCHITECTURES}
    return tuple(by_name[name] for name in names)


def _in_rows_of_its_own(architecture: Architecture) -> Family:
    """The layout of an architecture that no trainer's notation names: its lists of blocks, one after the other.

    One list is called BLOCK, several by the first word of their path (AuraFlow's double_layers: DOUBLE).
    """
    counts = {flat(root): count for root, count in architecture.blocks.items()}
    words = {flat(root): root.split(".")[-1].split("_")[0].upper() for root in architecture.blocks}
    roots = words if len(words) > 1 else dict.fromkeys(words, "BLOCK")
    rows = ((roots[root], count) for root, count in counts.items())
    layout = (BASE, *(block for group, count in rows for block in _numbered(group, range(count))))
    return Family(architecture.name, (architecture,), roots, layout, layout)


_KNOWN = (
    _unet("SD 1.5/2", 12, (1, 2, 4, 5, 7, 8), tuple(range(3, 12)), "SD 1.5", "SD 2", "SVD"),
    _unet("SDXL", 9, (4, 5, 7, 8), tuple(range(6))),
    _unet("SDXL Refiner", 12, (4, 5, 7, 8), tuple(range(3, 9))),
    _unet("KOALA", 6, (3, 5), tuple(range(4)), "KOALA", "KOALA 700M"),
    _unet("SD x4 upscaler", 12, (4, 5, 7, 8, 10, 11), tuple(range(9))),
    _in_one_row("SD 3"),
    _in_one_row("SD 3.5 Large"),
    _double_and_single("Flux", "Flux", "Chroma"),
    _double_and_single("Flux 2"),
    _double_and_single("Flux 2 Klein 4B"),
    _double_and_single("Flux 2 Klein 9B"),
    _in_one_row("Qwen-Image"),
    _in_one_row("Wan 2.1/2.2 14B"),
    _in_one_row("Wan 1.3B/5B", "Wan 2.1 1.3B", "Wan 2.2 5B"),
    _double_and_single("HunyuanVideo", "HunyuanVideo", "HunyuanImage 2.1", "HunyuanImage 2.1 Refiner"),
    _double_and_single("HunyuanVideo 1.5"),
    _in_one_row("Z-Image"),
    _in_one_row("Lumina 2"),
    _in_one_row("LTX-Video"),
    _in_one_row("LTX-Video 13B/LTX 2", "LTX-Video 13B", "LTX 2"),
)

_WITH_A_LAYOUT = {architecture for family in _KNOWN for architecture in family.architectures}
FAMILIES = (
    *_KNOWN,
    *(_in_rows_of_its_own(a) for a in ARCHITECTURES if a.blocks and a not in _WITH_A_LAYOUT),
)
