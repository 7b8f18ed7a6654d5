"""Which architecture a LoRA is for, from its modules' names and the shapes of the weights that they change.

1. Names. An architecture knows a name that its tables hold, its block among the model's blocks. Those that know the
   most of the LoRA's names are left, if that is nine in ten at least; none that a part of a name rules out.
2. Shapes. Of these, those that no shape contradicts: how wide the text is that attention takes in (768 SD 1.5, 1024
   SD 2, 2048 SDXL), how wide the model is. Names like those of a known model with other shapes are of an unknown one.
3. Blocks. Those with the most lists of blocks that have modules in every block are left: Flux has 19 double blocks,
   HunyuanVideo 20 that are called the same.
4. Several that are left are one answer if they are of one family, so that they read every name the same; the first of
   them is named. One that nothing but a part of it tells from a far more common one yields to that. Else the LoRA
   could be of any of them, and there is no answer: the text encoder alone, or a few layers that several have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from ..errors import LoraError
from . import prefixes
from .families import ARCHITECTURES
from .model import Architecture, Target
from .naming import in_encoder, target
from .patterns import list_of_blocks, outline_of

Shape = Sequence[int]
KNOWN_SHARE = 0.9


def candidates(modules: Mapping[str, Shape]) -> tuple[Architecture, ...]:
    """The architectures that modules of these names and weight shapes can be of, the likeliest first.

    All of them where there are no modules; none where no architecture knows the names. A shape of fewer than two
    sizes (a bias, a norm, one that isn't known) says nothing.
    """
    return _candidates(tuple((name, tuple(shape)) for name, shape in modules.items()))


# Loading, merging and saving each ask about the same LoRAs.
@lru_cache(maxsize=32)
def _candidates(modules: tuple[tuple[str, tuple[int, ...]], ...]) -> tuple[Architecture, ...]:
    parsed = [(*prefixes.split(name), shape) for name, shape in modules]
    paths = [(part, path, prefixes.flatten(path), shape) for part, path, shape in parsed]
    counts = _counts(paths)
    most = max(counts.values(), default=0)
    if most < KNOWN_SHARE * len(paths):
        return ()
    known = [a for a, count in counts.items() if count == most and not _ruled_out(a, [name for name, _ in modules])]
    fitting = [a for a in known if all(_fits(a, *module) for module in paths)]
    full = {a: _full_lists(a, paths) for a in fitting}
    return tuple(a for a in fitting if full[a] == max(full.values()))


def recognise(modules: Mapping[str, Shape]) -> Architecture | None:
    """The architecture that modules of these names and weight shapes are of; None where it can't be told."""
    return decide(candidates(modules), modules)


def decide(found: Sequence[Architecture], names: Iterable[str] = ()) -> Architecture | None:
    """The one that several candidates for modules of these names come to; None where several families are left."""
    left = likely(found, names)
    return left[0] if left and len({a.family for a in left}) == 1 else None


def likely(found: Sequence[Architecture], names: Iterable[str] = ()) -> tuple[Architecture, ...]:
    """The candidates without those that defer to another of them which reads all names the same."""
    names = list(names)

    def defers(architecture: Architecture) -> bool:
        others = (a for a in found if a.family in architecture.defers_to)
        return any(all(target(name, a) == target(name, architecture) for name in names) for a in others)

    return tuple(architecture for architecture in found if not defers(architecture))


def compatible(first: Architecture, second: Architecture) -> bool:
    """Whether LoRAs of the two can be merged: they read names the same and are of one size, as Flux and Chroma."""
    return first is second or (first.family == second.family and first.size == second.size)


def clash(found: Sequence[Sequence[Architecture]]) -> tuple[int, int] | None:
    """The first two of several LoRAs, told by their candidates, that can't be for one model."""
    for i, first in enumerate(found):
        for j in range(i):
            if found[j] and first and not any(compatible(a, b) for a in found[j] for b in first):
                return j, i
    return None


def shared(found: Sequence[Sequence[Architecture]], names: Iterable[str] = ()) -> Architecture | None:
    """The architecture of a merge of LoRAs with these candidates: what one of them leaves open another may decide.

    ``names`` are those of all their modules.
    """
    told = [one for one in found if one]
    if not told:
        return None
    common = [a for a in ARCHITECTURES if all(a in one for one in told)]
    common = common or [a for a in ARCHITECTURES if all(any(compatible(a, b) for b in one) for one in told)]
    return decide(common, names)


def _counts(paths: Sequence[tuple[str, str, str, Shape]]) -> dict[Architecture, int]:
    """How many of the names each architecture knows, for those that may know the most, in the registry's order."""
    # the outlines say in one look-up a name how many an architecture can know at most
    outlines = (outline_of(flat)[0] for part, _, flat, _ in paths if part == "model")
    of_model = Counter((outline, outline.removesuffix("_bias")) for outline in outlines)  # a bias, by its layer
    of_encoders = sum(part != "model" for part, _, _, _ in paths)
    bounds = {
        a: of_encoders + sum(count for outlines, count in of_model.items() if not a.outlines.isdisjoint(outlines))
        for a in ARCHITECTURES
    }
    counts: dict[Architecture, int] = {}
    most = 0
    for architecture in sorted(ARCHITECTURES, key=bounds.__getitem__, reverse=True):
        if bounds[architecture] < most:
            break
        counts[architecture] = sum(_knows(architecture, part, path, flat) for part, path, flat, _ in paths)
        most = max(most, counts[architecture])
    return {a: counts[a] for a in ARCHITECTURES if a in counts}


def is_known(name: str, architecture: Architecture) -> bool:
    """Whether the architecture's tables hold a module's name, whatever its spelling."""
    part, path = prefixes.split(name)
    return _knows(architecture, part, path, prefixes.flatten(path), merely_read=True)


def _knows(architecture: Architecture, part: str, path: str, flat: str, merely_read: bool = False) -> bool:
    """``merely_read``: spellings that ComfyUI reads but nobody writes count too."""
    if part != "model":
        found = in_encoder(part, path, architecture)
        return found is not None and found[0].table.find(found[1]) is not None
    weight = _in_model(architecture, flat, merely_read)
    return weight is not None and architecture.has_block(*weight)


def _full_lists(architecture: Architecture, paths: Iterable[tuple[str, str, str, Shape]]) -> int:
    """How many of the architecture's lists of blocks have a module in every block."""
    blocks: dict[str, set[str]] = {}
    for part, _, flat, _ in paths:
        found = _in_model(architecture, flat) if part == "model" else None
        if found is not None and "b" in found[1]:
            blocks.setdefault(list_of_blocks(found[0]), set()).add(found[1]["b"])
    return sum(len(numbers) == architecture.blocks[root] for root, numbers in blocks.items())


def _in_model(architecture: Architecture, flat: str, merely_read: bool = False) -> tuple[str, dict[str, str]] | None:
    """The pattern of the weight that a flat path means, and its numbers; a bias has those of its layer."""
    own = architecture.own.find(flat)
    if own is not None:
        return own
    if flat.endswith("_bias"):
        return _in_model(architecture, flat.removesuffix("_bias"), merely_read)
    alias = architecture.aliases.find(flat)
    return None if alias is None or not (alias[0].usual or merely_read) else (alias[0].weight, alias[1])


def _ruled_out(architecture: Architecture, names: Iterable[str]) -> bool:
    return bool(architecture.excluded) and any(part in name for name in names for part in architecture.excluded)


def _fits(architecture: Architecture, part: str, path: str, flat: str, shape: Shape) -> bool:
    """Whether a shape is not another than the one that the architecture is known to have there."""
    if len(shape) < 2:
        return True  # a bias or a norm
    if part != "model":
        found = in_encoder(part, path, architecture)
        return found is None or found[0].fits(found[1], shape)
    own = architecture.own.find(flat)
    if own is not None:
        return _is_of(shape, architecture.shapes.get(own[0]), Target(""))
    alias = architecture.aliases.find(flat)
    if alias is None:
        return True
    rule = alias[0]
    return _is_of(shape, architecture.shapes.get(rule.weight), Target("", rule.start, rule.stop))


def _is_of(shape: Shape, weight: tuple[int, int] | None, rows: Target) -> bool:
    # 1x1 convolutions and linear layers are stored as either
    return weight is None or (
        shape[0] == weight[0] * (rows.stop - rows.start) and shape[1] == weight[1] and math.prod(shape[2:]) == 1
    )


def architecture_named(name: str) -> Architecture:
    """The architecture of this name, or the first of the family of this name. Raises LoraError for an unknown one."""
    wanted = name.casefold()
    found = [a for a in ARCHITECTURES if a.name.casefold() == wanted]
    found += [a for a in ARCHITECTURES if a.family.casefold() == wanted]
    if not found:
        known = ", ".join(a.name for a in ARCHITECTURES)
        raise LoraError(f"There is no model family {name!r}. The families are: {known}.")
    return found[0]
