"""The blocks of each model: which block a module lies in, and what block weights (lbw) call the blocks.

Paths are those of ComfyUI's own model with underscores, as in the weight of a Target. A U-Net has IN, MID and OUT
blocks, numbered as in its input_blocks, middle_block and output_blocks. Flux and similar models have DOUBLE and SINGLE
blocks, models with one list of blocks have BLOCKs. Everything else is BASE: text encoders, layers before and after the
blocks, the refiners of Lumina 2 and Z-Image, the side branches of Wan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..names import ARCHITECTURES, Architecture
from ..names.patterns import flat

BASE = "BASE"

# How paths in a block of any model begin.
_BLOCK_PATH = re.compile(r"mid_block_|[a-z_]*(blocks?_|_block|layers_)[0-9]+(_|$)")
_NUMBERED = re.compile(r"([a-z_]+?)(?:_|(?<=_block))([0-9]{1,9})(?:_|$)")
_UNET_ATTENTION = re.compile(r"(?:(?:in|out)put_blocks_[0-9]+|middle_block)_1_(?:norm|proj_in|proj_out|transformer_)")


@dataclass(frozen=True)
class BlockLayout:
    """The blocks of one or several architectures that have the same.

    ``lists``: the group of the blocks in each list, by the list's path. ``short`` and ``full``: the names of the base
    and of the blocks that a vector of block weights has values for, in its two possible lengths; the same if there is
    only one. ``attention``: if ``short`` has only the blocks with attention, matches the paths in an attention.
    """

    name: str
    architectures: tuple[Architecture, ...]
    lists: Mapping[str, str]
    short: tuple[str, ...]
    full: tuple[str, ...]
    attention: re.Pattern[str] | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups in the % form."""
        return tuple(group.lower() for group in self.lists.values())

    def block_of(self, path: str) -> str | None:
        """The block that a path of ComfyUI's model lies in; None if it lies in no block."""
        match = _NUMBERED.match(path)
        group = self.lists.get(match.group(1)) if match else None
        if match is None or group is None:
            return None
        numbered = f"{group}{int(match.group(2)):02}"
        return next((block for block in (numbered, group) if block in self.full), None)

    def is_attention(self, path: str) -> bool:
        return self.attention is not None and self.attention.match(path) is not None


def names_a_block(path: str) -> bool:
    """Whether a path looks like one in a block, of any model."""
    return _BLOCK_PATH.match(path) is not None


def _numbered(group: str, numbers: range | tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{group}{i:02}" for i in numbers)


def _unet(
    name: str, blocks: int, inputs: tuple[int, ...], outputs: tuple[int, ...], *architectures: str
) -> BlockLayout:
    """A U-Net with ``blocks`` blocks on each side; ``inputs`` and ``outputs`` are the ones with attention."""
    return BlockLayout(
        name,
        _architectures(architectures or (name,)),
        {"input_blocks": "IN", "middle_block": "MID", "output_blocks": "OUT"},
        short=(BASE, *_numbered("IN", inputs), "MID", *_numbered("OUT", outputs)),
        full=(BASE, *_numbered("IN", range(blocks)), "MID", *_numbered("OUT", range(blocks))),
        attention=_UNET_ATTENTION,
    )


def _one_list(name: str, *architectures: str) -> BlockLayout:
    found = _architectures(architectures or (name,))
    ((path, count),) = found[0].blocks.items()
    blocks = (BASE, *_numbered("BLOCK", range(count)))
    return BlockLayout(name, found, {path: "BLOCK"}, blocks, blocks)


def _double_and_single(name: str, *architectures: str) -> BlockLayout:
    """The short vector has the double blocks only."""
    found = _architectures(architectures or (name,))
    double, single = found[0].blocks["double_blocks"], found[0].blocks["single_blocks"]
    short = (BASE, *_numbered("DOUBLE", range(double)))
    lists = {"double_blocks": "DOUBLE", "single_blocks": "SINGLE"} if single else {"double_blocks": "DOUBLE"}
    return BlockLayout(name, found, lists, short, (*short, *_numbered("SINGLE", range(single))))


def _architectures(names: tuple[str, ...]) -> tuple[Architecture, ...]:
    by_name = {architecture.name: architecture for architecture in ARCHITECTURES}
    return tuple(by_name[name] for name in names)


def _from_table(architecture: Architecture) -> BlockLayout:
    """The layout of an architecture that Inspire's notation doesn't cover: its lists of blocks, one after the other.

    The group of a single list is BLOCK, that of several is the first word of their path (AuraFlow's double_layers:
    DOUBLE).
    """
    counts = {flat(path): count for path, count in architecture.blocks.items()}
    words = {flat(path): path.split(".")[-1].split("_")[0].upper() for path in architecture.blocks}
    lists = words if len(words) > 1 else dict.fromkeys(words, "BLOCK")
    groups = ((lists[path], count) for path, count in counts.items())
    blocks = (BASE, *(block for group, count in groups for block in _numbered(group, range(count))))
    return BlockLayout(architecture.name, (architecture,), lists, blocks, blocks)


_LISTED = (
    _unet("SD 1.5/2", 12, (1, 2, 4, 5, 7, 8), tuple(range(3, 12)), "SD 1.5", "SD 2", "SVD"),
    _unet("SDXL", 9, (4, 5, 7, 8), tuple(range(6))),
    _unet("SDXL Refiner", 12, (4, 5, 7, 8), tuple(range(3, 9))),
    _unet("KOALA", 6, (3, 5), tuple(range(4)), "KOALA", "KOALA 700M"),
    _unet("SD x4 upscaler", 12, (4, 5, 7, 8, 10, 11), tuple(range(9))),
    _one_list("SD 3"),
    _one_list("SD 3.5 Large"),
    _double_and_single("Flux", "Flux", "Chroma"),
    _double_and_single("Flux 2"),
    _double_and_single("Flux 2 Klein 4B"),
    _double_and_single("Flux 2 Klein 9B"),
    _one_list("Qwen-Image"),
    _one_list("Wan 2.1/2.2 14B"),
    _one_list("Wan 1.3B/5B", "Wan 2.1 1.3B", "Wan 2.2 5B"),
    _double_and_single("HunyuanVideo", "HunyuanVideo", "HunyuanImage 2.1", "HunyuanImage 2.1 Refiner"),
    _double_and_single("HunyuanVideo 1.5"),
    _one_list("Z-Image"),
    _one_list("Lumina 2"),
    _one_list("LTX-Video"),
    _one_list("LTX-Video 13B/LTX 2", "LTX-Video 13B", "LTX 2"),
)

_IN_A_LISTED_LAYOUT = {architecture for layout in _LISTED for architecture in layout.architectures}
LAYOUTS = (
    *_LISTED,
    *(_from_table(a) for a in ARCHITECTURES if a.blocks and a not in _IN_A_LISTED_LAYOUT),
)
