"""State dict <-> Lora. One file per adapter family, and the registry of them.

A family is a module here with ``NAME``, ``SUFFIXES`` (how the keys of its tensors end) and
``read(name, tensors, source) -> adapters``, where ``tensors`` holds the tensors of one module by suffix.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from ..adapters.base import Adapter, Lora, by_key
from ..adapters.combine import join
from ..compute.context import CancelCheck, Progress, no_cancel, no_progress
from ..compute.precision import full_precision
from ..errors import DAMAGED, INCOMPLETE, LoraError
from ..io.safetensors_file import Stored, in_memory
from ..lazy import Later, known_finite, made
from ..names import Target, cleaned, recognise, resolve
from ..numerics.finite import is_finite, require_finite, require_fits
from . import based, embeddings, full, layouts, loha, lokr, lora, peft_dora, trainer_scale, unsupported
from .checks import ALPHA
from .key_styles import loadable_form
from .peft_config import PeftConfig
from .stored import later, left_in_file
from .trainer_scale import AlphaFrom

log = logging.getLogger(__name__)

FAMILIES: tuple[ModuleType, ...] = (lora, loha, lokr, full, based, peft_dora)
# Families whose tensors are not left in their file.
IN_MEMORY = (based, peft_dora)

_FAMILY_OF = {suffix: family for family in FAMILIES for suffix in family.SUFFIXES}
_LONGEST_FIRST = sorted({*_FAMILY_OF, *unsupported.OF_ENDING, ALPHA}, key=len, reverse=True)
_ENDINGS = re.compile(f"(?:{'|'.join(map(re.escape, _LONGEST_FIRST))})$")

# No weight of a model has more than five: (out, in, depth, height, width).
MOST_DIMENSIONS = 8

# The tensors of one module by suffix, in memory or in their file.
Group = dict[str, layouts.Value]


@full_precision()
def from_state_dict(
    tensors: Mapping[str, layouts.Value],
    name: str,
    metadata: Mapping[str, str] | None = None,
    check: CancelCheck = no_cancel,
    alpha_from: AlphaFrom | Literal["rslora"] = "trainer",
    config: PeftConfig | None = None,
) -> Lora:
    """The LoRA that a file's tensors spell. ``name`` is what messages call it, ``config`` PEFT's configuration of it.

    Tensors in a file are read and checked one module after the other, and left there where the model isn't needed.
    ``alpha_from``: whether a scale counts that only ``config`` or the metadata say (trainer_scale.py).
    Raises LoraError, naming the module, for tensors of adapters of no known family, missing halves, shapes that
    disagree, alphas that are no single finite number, and NaN or infinite values.
    """
    metadata = metadata or {}
    contents = _sorted(layouts.normalised(tensors, name), name)
    told = trainer_scale.read(contents.groups, name, metadata, alpha_from, config)
    factors: list[float] = []
    adapters: list[Adapter] = []
    usual = _usual_names(contents.groups, name)
    for prefix, group in contents.groups.items():
        check()
        source = f"{name}: module {prefix}"
        tensors_of_group = _in_memory(group, source)
        for suffix, tensor in tensors_of_group.items():
            require_finite(tensor, f"{source} ({suffix.lstrip('._')})")
        factors.append(told.factor(prefix, tensors_of_group))
        if factors[-1] != 1 and alpha_from != "tensors":
            counted = trainer_scale.scaled(tensors_of_group, factors[-1])
            for suffix in counted.keys() - {ALPHA}:
                require_fits(counted[suffix], f"{source} ({suffix.lstrip('._')})")
            group, tensors_of_group = {**group, **counted}, {**tensors_of_group, **counted}
        for family, members in _by_family(tensors_of_group).items():
            found = family.read(usual.get(prefix, prefix), members, source)
            if family is lora:
                found = [lora.left_in_file(module, number, group) for number, module in enumerate(found)]
            elif family not in IN_MEMORY:
                found = [_left_in_file(*at, family, group, members, source) for at in enumerate(found)]
            adapters += found
    difference, doubtful = told.difference(factors), [*told.doubts(), *contents.notes]
    for level, notes in ((logging.INFO, difference), (logging.WARNING, doubtful)):
        for note in notes:
            log.log(level, "%s", note)
    return Lora(
        name,
        by_key(_joined(adapters, name)),
        metadata=metadata,
        source=told.source(factors),
        extras={key: _extra(key, value, name) for key, value in contents.extras.items()},
        notes=(*difference, *doubtful),
    )


def _extra(key: str, value: layouts.Value, name: str) -> Tensor | Later:
    require_finite(_in_memory({"": value}, f"{name}: {key}")[""], f"{name}: {key}")
    return later(value) if isinstance(value, Stored) else value


def _left_in_file(
    number: int, adapter: Adapter, family: ModuleType, group: Group, members: Mapping[str, Tensor], source: str
) -> Adapter:
    kept = {suffix: tensor if suffix == ALPHA else group[suffix] for suffix, tensor in members.items()}
    return left_in_file(adapter, kept, lambda tensors: family.read(adapter.name, tensors, source)[number])


def _in_memory(group: Group, source: str) -> dict[str, Tensor]:
    for suffix, value in group.items():
        if len(value.shape) > MOST_DIMENSIONS:  # torch's operations end at 64, and take long to say so
            part = f" ({suffix.lstrip('._')})" if suffix else ""
            raise LoraError(f"{source}{part} has {len(value.shape)} dimensions. {DAMAGED}")
    return in_memory(group)


def _joined(adapters: Sequence[Adapter], name: str) -> Iterable[Adapter]:
    """The adapters of a file with those of one weight, under two of its names, as one."""
    architecture = recognise({adapter.name: adapter.weight_shape for adapter in adapters})
    by_weight: dict[tuple[Target, str], Adapter] = {}
    for adapter in adapters:
        weight = (resolve(adapter.name, architecture), adapter.parameter)
        if weight in by_weight:
            log.warning(
                "%s changes one weight twice, as %s and as %s: both count; ComfyUI's own loader keeps one.",
                *(name, by_weight[weight].name, adapter.name),
            )
            adapter = join(by_weight[weight], adapter, f"{name}: module {adapter.name}")
        by_weight[weight] = adapter
    return by_weight.values()


@dataclass(frozen=True)
class _Contents:
    """A file's tensors by module and suffix, in its order, the embeddings, and notes on what is left out."""

    groups: dict[str, Group]
    extras: dict[str, layouts.Value]
    notes: list[str]


def _sorted(tensors: Mapping[str, layouts.Value], name: str) -> _Contents:
    groups: dict[str, Group] = {}
    extras: dict[str, layouts.Value] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        ending = _ENDINGS.search(key)
        suffix = ending.group() if ending else ""
        prefix = key[: len(key) - len(suffix)]
        if key.startswith(embeddings.PREFIX):
            extras[key] = tensor
        elif not suffix or not prefix:
            unknown.append(key)
        elif suffix in unsupported.OF_ENDING:
            raise unsupported.refusal(unsupported.OF_ENDING[suffix], prefix, name)
        else:
            groups.setdefault(prefix, {})[suffix] = tensor
    if all(group.keys() == {ALPHA} for group in groups.values()):
        some = ", ".join([*tensors][:3]) or "nothing"
        raise LoraError(f"{name} holds no LoRA weights (it holds {some} ...). Choose a LoRA file.")
    orphans = [prefix for prefix, group in groups.items() if group.keys() == {ALPHA}]
    if orphans:
        raise LoraError(f"{name}: module {orphans[0]} has an alpha but no weights. {INCOMPLETE}")
    return _Contents(groups, extras, [unsupported.left_out(unknown, groups, name)] if unknown else [])


def _usual_names(groups: Iterable[str], name: str) -> dict[str, str]:
    """The usual ones of module names that no prefix explains; the log says which."""
    usual = cleaned(groups)
    if usual:
        first = next(iter(usual))
        log.warning("%s: %d module names are read as usual ones, %s as %s.", name, len(usual), first, usual[first])
    return usual


def _by_family(group: dict[str, Tensor]) -> dict[ModuleType, dict[str, Tensor]]:
    """One module's tensors by family. A dora_scale makes it DoRA's, whatever family it decomposes, and a magnitude
    PEFT's DoRA."""
    families: dict[ModuleType, dict[str, Tensor]] = {}
    for suffix, tensor in group.items():
        if suffix != ALPHA:
            family = _FAMILY_OF[suffix]
            if based.DORA in group and family is not full:
                family = based
            elif peft_dora.MAGNITUDE in group and family is lora:
                family = peft_dora
            families.setdefault(family, {})[suffix] = tensor
    for members in families.values():
        if ALPHA in group:
            members[ALPHA] = group[ALPHA]
    return families


# kohya's endings, and those of PEFT, which has no alpha: it must be the rank.
PEFT_ENDINGS = {
    **{".lora_up.weight": peft_dora.UP, ".lora_down.weight": peft_dora.DOWN, ALPHA: None},
    **{ending: ending for ending in (peft_dora.UP, peft_dora.DOWN, peft_dora.MAGNITUDE)},
}


def to_peft_file(lora: Lora, dtype: torch.dtype | None = None, check: CancelCheck = no_cancel) -> dict[str, Later]:
    """As to_file, in PEFT's style (see spelling.respelled): lora_A and lora_B under the names as they are."""
    contents: dict[str, Later] = {}
    for module in lora.modules.values():
        check()
        for suffix, value in module.tensors():
            ending = PEFT_ENDINGS[suffix]
            if ending is not None:
                contents[module.name + ending] = _as_written(value, dtype, f"{lora.name}: module {module.name}")
    return contents


def to_file(lora: Lora, dtype: torch.dtype | None = None, check: CancelCheck = no_cancel) -> dict[str, Later]:
    """What a file holds of a LoRA, under endings that every ComfyUI loads behind any prefix; on the CPU, contiguous.

    Block weights are in it, the LoRA's strengths are not (see ``Lora.baked``). ``dtype`` None keeps each tensor's
    own. Making a tensor raises LoraError, naming the module, when a value is too large for its precision.
    """
    contents: dict[str, Later] = {}
    for module in loadable_form(lora).modules.values():
        check()
        for suffix, value in module.tensors():
            keep = suffix == ALPHA or not value.dtype.is_floating_point
            what = f"{lora.name}: module {module.name}"
            contents[module.name + suffix] = _as_written(value, None if keep else dtype, what, suffix == ALPHA)
    return layouts.for_file(contents)


def to_state_dict(
    lora: Lora, dtype: torch.dtype | None = None, check: CancelCheck = no_cancel, progress: Progress = no_progress
) -> dict[str, Tensor]:
    """The tensors of to_file, all of them made; ``progress`` hears of each."""
    contents = to_file(lora, dtype, check)
    tensors = {}
    for key, value in contents.items():
        check()
        tensors[key] = value.make()
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
