"""Which architecture a LoRA is for, judged by its modules' names and the shapes of the weights that they adapt.

1. Names. An architecture knows a name if it is in its tables and its block is one of the model's blocks. The
   architectures that know the most of the LoRA's names remain, if that is at least nine in ten. ``excluded`` key parts
   rule an architecture out.
2. Shapes. Of these, the ones that no shape contradicts: how wide the text is that attention takes in (768 in SD 1.5,
   1024 in SD 2, 2048 in SDXL), how wide the model is. A LoRA with known names and other shapes is for an unknown model.
3. Blocks. Of these, the ones with the most lists of blocks that the LoRA covers completely: Flux has 19 double blocks,
   and HunyuanVideo 20 with the same names.
4. If several remain and they are of one family, they resolve every name alike, and the first one is the answer. An
   architecture that could only be told from a far more common one by modules that the LoRA lacks defers to that one.
   Otherwise there is no answer: the LoRA has only a text encoder, or a few layers that several models have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from ..errors import LoraError
from . import prefixes
from .families import ARCHITECTURES
from .model import Architecture
from .patterns import block_list, split_numbers
from .reading import in_encoder, resolve
from .row_range import ALL_ROWS, RowRange

Shape = Sequence[int]
# The share of a LoRA's names that its architecture must know.
KNOWN_SHARE = 0.9


def candidates(modules: Mapping[str, Shape]) -> tuple[Architecture, ...]:
    """The architectures that modules with these names and weight shapes can be for, the likeliest first.

    All of them if there are no modules, none if no architecture knows the names. Shapes with fewer than two sizes (of
    biases and norms, or unknown ones) don't count.
    """
    return _candidates(tuple((name, tuple(shape)) for name, shape in modules.items()))


# Loading, merging and saving ask for the same LoRAs.
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
    """The architecture that modules with these names and weight shapes are for; None if it is ambiguous or unknown."""
    return decide(candidates(modules), modules)


def decide(found: Sequence[Architecture], names: Iterable[str] = ()) -> Architecture | None:
    """The one architecture among the candidates for modules with these names; None if several families remain."""
    remaining = likely(found, names)
    return remaining[0] if remaining and len({a.family for a in remaining}) == 1 else None


def likely(found: Sequence[Architecture], names: Iterable[str] = ()) -> tuple[Architecture, ...]:
    """The candidates without those that defer to another one which resolves all of the names alike."""
    names = list(names)

    def defers(architecture: Architecture) -> bool:
        others = (a for a in found if a.family in architecture.defers_to)
        return any(all(resolve(name, a) == resolve(name, architecture) for name in names) for a in others)

    return tuple(architecture for architecture in found if not defers(architecture))


def compatible(first: Architecture, second: Architecture) -> bool:
    """Whether LoRAs for the two can be merged: they are of one family and one size, like Flux and Chroma."""
    return first is second or (first.family == second.family and first.size == second.size)


def find_clash(found: Sequence[Sequence[Architecture]]) -> tuple[int, int] | None:
    """The indices of the first two LoRAs that can't be for one model, given the candidates for each LoRA."""
    for i, first in enumerate(found):
        for j in range(i):
            if found[j] and first and not any(compatible(a, b) for a in found[j] for b in first):
                return j, i
    return None


def shared_architecture(found: Sequence[Sequence[Architecture]], names: Iterable[str] = ()) -> Architecture | None:
    """The architecture of several LoRAs together, given the candidates for each and the names of all their modules.

    A LoRA that is ambiguous on its own can be decided by another one.
    """
    known = [one for one in found if one]
    if not known:
        return None
    common = [a for a in ARCHITECTURES if all(a in one for one in known)]
    common = common or [a for a in ARCHITECTURES if all(any(compatible(a, b) for b in one) for one in known)]
    return decide(common, names)


def _counts(paths: Sequence[tuple[str, str, str, Shape]]) -> dict[Architecture, int]:
    """How many of the names each architecture knows, in the order of the registry.

    Only architectures that can know the most are in it: a look-up of the numberless paths gives an upper bound, and
    counting stops at the first bound below the best count.
    """
    numberless = (split_numbers(flat)[0] for component, _, flat, _ in paths if component == "model")
    of_model = Counter((path, path.removesuffix("_bias")) for path in numberless)  # a bias counts as its layer
    of_encoders = sum(component != "model" for component, _, _, _ in paths)
    bounds = {
        a: of_encoders + sum(count for forms, count in of_model.items() if not a.numberless_paths.isdisjoint(forms))
        for a in ARCHITECTURES
    }
    counts: dict[Architecture, int] = {}
    most = 0
    for architecture in sorted(ARCHITECTURES, key=bounds.__getitem__, reverse=True):
        if bounds[architecture] < most:
            break
        counts[architecture] = sum(_knows(architecture, component, path, flat) for component, path, flat, _ in paths)
        most = max(most, counts[architecture])
    return {a: counts[a] for a in ARCHITECTURES if a in counts}


def is_known(name: str, architecture: Architecture) -> bool:
    """Whether a module's name is in the architecture's tables, in any form."""
    component, path = prefixes.split(name)
    return _knows(architecture, component, path, prefixes.flatten(path), all_aliases=True)


def _knows(architecture: Architecture, component: str, path: str, flat: str, all_aliases: bool = False) -> bool:
    """``all_aliases``: names that ComfyUI maps but nobody writes count too."""
    if component != "model":
        found = in_encoder(component, path, architecture)
        return found is not None and found[0].table.find(found[1]) is not None
    weight = _in_model(architecture, flat, all_aliases)
    return weight is not None and architecture.has_block(*weight)


def _full_lists(architecture: Architecture, paths: Iterable[tuple[str, str, str, Shape]]) -> int:
    """How many of the architecture's lists of blocks have a module in every block."""
    blocks: dict[str, set[str]] = {}
    for component, _, flat, _ in paths:
        found = _in_model(architecture, flat) if component == "model" else None
        if found is not None and "b" in found[1]:
            blocks.setdefault(block_list(found[0]), set()).add(found[1]["b"])
    return sum(len(numbers) == architecture.blocks[path] for path, numbers in blocks.items())


def _in_model(architecture: Architecture, flat: str, all_aliases: bool = False) -> tuple[str, dict[str, str]] | None:
    """The pattern and the numbers of the weight at a flat path; for a bias, those of its layer."""
    own = architecture.own_paths.find(flat)
    if own is not None:
        return own
    if flat.endswith("_bias"):
        return _in_model(architecture, flat.removesuffix("_bias"), all_aliases)
    found = architecture.aliases.find(flat)
    if found is None or not (found[0].in_use or all_aliases):
        return None
    alias, numbers = found
    return alias.weight, numbers


def _ruled_out(architecture: Architecture, names: Iterable[str]) -> bool:
    return bool(architecture.excluded) and any(part in name for name in names for part in architecture.excluded)


def _fits(architecture: Architecture, component: str, path: str, flat: str, shape: Shape) -> bool:
    """Whether the architecture can have this shape there, as far as its shapes are known."""
    if len(shape) < 2:
        return True  # a bias or a norm
    if component != "model":
        found = in_encoder(component, path, architecture)
        return found is None or found[0].fits(found[1], shape)
    own = architecture.own_paths.find(flat)
    if own is not None:
        return _has_shape(shape, architecture.shapes.get(own[0]), ALL_ROWS)
    found = architecture.aliases.find(flat)
    if found is None:
        return True
    alias = found[0]
    return _has_shape(shape, architecture.shapes.get(alias.weight), alias.rows)


def _has_shape(shape: Shape, weight: tuple[int, int] | None, rows: RowRange) -> bool:
    # a 1x1 kernel counts as a matrix: LoRAs of one weight come with either
    return weight is None or (shape[0] == weight[0] * rows.size and shape[1] == weight[1] and math.prod(shape[2:]) == 1)


def architecture_named(name: str) -> Architecture:
    """The architecture with this name, or the first of the family with this name. Raises LoraError if there is none."""
    wanted = name.casefold()
    found = [a for a in ARCHITECTURES if a.name.casefold() == wanted]
    found += [a for a in ARCHITECTURES if a.family.casefold() == wanted]
    if not found:
        known = ", ".join(a.name for a in ARCHITECTURES)
        raise LoraError(f"There is no model family {name!r}. The families are: {known}.")
    return found[0]
