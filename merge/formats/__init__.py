"""State dict <-> Lora. One file per adapter family, and the registry of them.

A family is a module here with ``NAME``, ``SUFFIXES`` (how the keys of its tensors end) and
``read(name, tensors, source) -> adapters``, where ``tensors`` holds the tensors of one module by suffix.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor

from ..compute import Check, Progress, go_on, unwatched
from ..finite import is_finite, require_finite, require_fits
from ..join import join
from ..lora import DAMAGED, INCOMPLETE, Adapter, Later, Lora, LoraError, by_key, known_finite, made
from ..names import Architecture, Target, loadable, recognise, target
from ..precision import full_precision
from ..stored import left_in_file
from ..tensorfile import in_memory
from . import based, full, layouts, loha, lokr, lora, rslora
from .checks import ALPHA

log = logging.getLogger(__name__)

FAMILIES: tuple[ModuleType, ...] = (lora, loha, lokr, full, based)

# What is known by its ending and has no place in a merge: refused by name, never dropped.
UNSUPPORTED: dict[str, tuple[str, ...]] = {
    "IA3": (".on_input",),
    "OFT with a diagonal": (".oft_diag",),
    "PEFT's DoRA": (".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
    "LoRA with a bias": (".lora_B.bias", ".lora_up.bias"),
    "LoRA of an embedding": (".lora_embedding_A", ".lora_embedding_B"),
}

_FAMILY_OF = {suffix: family for family in FAMILIES for suffix in family.SUFFIXES}
_UNSUPPORTED_OF = {suffix: name for name, suffixes in UNSUPPORTED.items() for suffix in suffixes}
_LONGEST_FIRST = sorted({*_FAMILY_OF, *_UNSUPPORTED_OF, ALPHA}, key=len, reverse=True)
_ENDINGS = re.compile(f"(?:{'|'.join(map(re.escape, _LONGEST_FIRST))})$")

# No weight of a model has more than five: (out, in, depth, height, width).
MOST_DIMENSIONS = 8

# The tensors of one module by suffix, in memory or in their file.
Group = dict[str, layouts.Value]


@full_precision()
def from_state_dict(
    tensors: Mapping[str, layouts.Value], name: str, metadata: Mapping[str, str] | None = None, check: Check = go_on
) -> Lora:
    """The LoRA that a file's tensors spell. ``name`` is what messages call it.

    Tensors in a file are read and checked one module after the other, and left there where the model isn't needed.
    Raises LoraError, naming the module, for tensors of no known family, missing halves, shapes that disagree, alphas
    that are no single finite number, and NaN or infinite values.
    """
    adapters: list[Adapter] = []
    for prefix, group in _by_prefix(layouts.normalised(tensors, name), name).items():
        check()
        source = f"{name}: module {prefix}"
        tensors_of_group = _in_memory(group, source)
        for suffix, tensor in tensors_of_group.items():
            require_finite(tensor, f"{source} ({suffix.lstrip('._')})")
        for family, members in _by_family(tensors_of_group).items():
            found = family.read(prefix, members, source)
            if family is lora:
                found = [lora.left_in_file(module, number, group) for number, module in enumerate(found)]
            elif family is not based:
                found = [_left_in_file(*at, family, group, members, source) for at in enumerate(found)]
            adapters += found
    adapters = rslora.scaled_as_told(adapters, metadata or {}, name)
    return Lora(name, by_key(_joined(adapters, name)), metadata=metadata or {})


def _left_in_file(
    number: int, adapter: Adapter, family: ModuleType, group: Group, members: Mapping[str, Tensor], source: str
) -> Adapter:
    kept = {suffix: tensor if suffix == ALPHA else group[suffix] for suffix, tensor in members.items()}
    return left_in_file(adapter, kept, lambda tensors: family.read(adapter.name, tensors, source)[number])


def _in_memory(group: Group, source: str) -> dict[str, Tensor]:
    for suffix, value in group.items():
        if len(value.shape) > MOST_DIMENSIONS:  # torch's operations end at 64, and take long to say so
            raise LoraError(f"{source} ({suffix.lstrip('._')}) has {len(value.shape)} dimensions. {DAMAGED}")
    return in_memory(group)


def architecture_of(adapters: Iterable[Adapter]) -> Architecture | None:
    """The kind of model that these are for; None where their names and shapes don't tell."""
    return recognise({adapter.name: adapter.weight_shape for adapter in adapters})


def _joined(adapters: Sequence[Adapter], name: str) -> Iterable[Adapter]:
    """The adapters of a file with those of one weight, under two of its names, as one."""
    architecture = architecture_of(adapters)
    by_weight: dict[tuple[Target, str], Adapter] = {}
    for adapter in adapters:
        weight = (target(adapter.name, architecture), adapter.parameter)
        if weight in by_weight:
            log.warning(
                "%s changes one weight twice, as %s and as %s: both count; ComfyUI's own loader keeps one.",
                *(name, by_weight[weight].name, adapter.name),
            )
            adapter = join(by_weight[weight], adapter, f"{name}: module {adapter.name}")
        by_weight[weight] = adapter
    return by_weight.values()


def file_names(lora: Lora) -> dict[str, str]:
    """The name that each module is written under, by the module's own: one that every supported ComfyUI loads."""
    architecture = architecture_of(lora.modules.values())
    return {module.name: loadable(module.name, architecture) for module in lora.modules.values()}


def _by_prefix(tensors: Mapping[str, layouts.Value], name: str) -> dict[str, Group]:
    """The tensors by module and suffix, in the file's order."""
    groups: dict[str, Group] = {}
    strangers = []
    for key, tensor in tensors.items():
        ending = _ENDINGS.search(key)
        suffix = ending.group() if ending else ""
        prefix = key[: len(key) - len(suffix)]
        if not suffix or not prefix:
            strangers.append(key)
        elif suffix in _UNSUPPORTED_OF:
            raise LoraError(
                f"{name}: {_UNSUPPORTED_OF[suffix]} module {prefix} is not supported. "
                "Leave this file out of the merge, or apply it with ComfyUI's own loader."
            )
        else:
            groups.setdefault(prefix, {})[suffix] = tensor
    if all(group.keys() == {ALPHA} for group in groups.values()):
        some = ", ".join([*tensors][:3]) or "nothing"
        raise LoraError(f"{name} holds no LoRA weights (it holds {some} ...). Choose a LoRA file.")
    if strangers:
        raise LoraError(
            f"{name}: tensor {strangers[0]} belongs to no kind of LoRA that this pack knows "
            f"({len(strangers)} such tensors). Merging would drop it: leave "
            "this file out of the merge, or apply it with ComfyUI's own loader."
        )
    orphans = [prefix for prefix, group in groups.items() if group.keys() == {ALPHA}]
    if orphans:
        raise LoraError(f"{name}: module {orphans[0]} has an alpha but no weights. {INCOMPLETE}")
    return groups


def _by_family(group: dict[str, Tensor]) -> dict[ModuleType, dict[str, Tensor]]:
    """One module's tensors by family. A dora_scale makes it DoRA's, whatever family it decomposes."""
    families: dict[ModuleType, dict[str, Tensor]] = {}
    for suffix, tensor in group.items():
        if suffix != ALPHA:
            family = _FAMILY_OF[suffix]
            if based.DORA in group and family is not full:
                family = based
            families.setdefault(family, {})[suffix] = tensor
    for members in families.values():
        if ALPHA in group:
            members[ALPHA] = group[ALPHA]
    return families


# kohya's endings, and those of PEFT, which has no alpha: it must be the rank.
PEFT_ENDINGS = {".lora_up.weight": ".lora_B.weight", ".lora_down.weight": ".lora_A.weight", ALPHA: None}


def to_peft_file(lora: Lora, dtype: torch.dtype | None = None, check: Check = go_on) -> dict[str, Later]:
    """As to_file, in PEFT's style (see spelling.respelled): lora_A and lora_B under the names as they are."""
    contents: dict[str, Later] = {}
    for module in lora.modules.values():
        check()
        for suffix, value in module.tensors():
            ending = PEFT_ENDINGS[suffix]
            if ending is not None:
                contents[module.name + ending] = _as_written(value, dtype, f"{lora.name}: module {module.name}")
    return contents


def to_file(lora: Lora, dtype: torch.dtype | None = None, check: Check = go_on) -> dict[str, Later]:
    """What a file holds of a LoRA, under endings that every ComfyUI loads behind any prefix; on the CPU, contiguous.

    Block weights are in it, the LoRA's strengths are not (see ``Lora.baked``). ``dtype`` None keeps each tensor's
    own. Making a tensor raises LoraError, naming the module, when a value is too large for its precision.
    """
    contents: dict[str, Later] = {}
    names = file_names(lora)
    for module in lora.modules.values():
        check()
        for suffix, value in module.tensors():
            keep = suffix == ALPHA or not value.dtype.is_floating_point
            what = f"{lora.name}: module {module.name}"
            contents[names[module.name] + suffix] = _as_written(value, None if keep else dtype, what, suffix == ALPHA)
    return layouts.for_file(contents)


def to_state_dict(
    lora: Lora, dtype: torch.dtype | None = None, check: Check = go_on, progress: Progress = unwatched
) -> dict[str, Tensor]:
    """The tensors of to_file, all of them made; ``progress`` hears of each."""
    contents = to_file(lora, dtype, check)
    tensors = {}
    for key, later in contents.items():
        check()
        tensors[key] = later.make()
        progress(len(tensors), len(contents))
    return tensors


def _as_written(value: Tensor | Later, dtype: torch.dtype | None, what: str, is_computed: bool = False) -> Later:
    """A tensor in the precision that it is written in; looked at for being finite where its values are new."""
    target = value.dtype if dtype is None else dtype

    def make() -> Tensor:
        with full_precision():
            tensor = made(value)
            if is_computed or tensor.dtype != target or not known_finite(value):
                tensor = tensor.to(target)
                if isinstance(value, Later) and value.wide and target != value.dtype and not is_finite(tensor):
                    tensor = value.wide().to(target)
                require_fits(tensor, what)
        return tensor.cpu().contiguous()

    return Later(target, tuple(value.shape), make)
