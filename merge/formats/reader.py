"""State dict -> Lora.

Each adapter family is a Python file in this package with ``NAME``, ``SUFFIXES`` (how the keys of its tensors end) and
``read(module: ModuleTensors) -> adapters``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from torch import Tensor

from ..adapters.base import Adapter, Lora, by_key
from ..adapters.combine import join
from ..compute.context import CancelCheck, no_cancel
from ..compute.precision import full_precision
from ..errors import DAMAGED, INCOMPLETE, LoraError
from ..lazy import LazyTensor
from ..names import Architecture, Target, cleaned, recognise, resolve
from ..numerics.finite import require_finite, require_fits
from . import (
    embeddings,
    full,
    layouts,
    loha,
    lokr,
    lora,
    peft_dora,
    row_order,
    trainer_scale,
    unsupported,
    weight_dependent,
)
from .checks import ALPHA
from .module_tensors import ModuleTensors
from .peft_config import PeftConfig
from .trainer_scale import AlphaFrom

log = logging.getLogger(__name__)

FAMILIES: tuple[ModuleType, ...] = (lora, loha, lokr, full, weight_dependent, peft_dora)

_FAMILY_OF = {suffix: family for family in FAMILIES for suffix in family.SUFFIXES}
_LONGEST_FIRST = sorted({*_FAMILY_OF, *unsupported.OF_ENDING, ALPHA}, key=len, reverse=True)
_ENDINGS = re.compile(f"(?:{'|'.join(map(re.escape, _LONGEST_FIRST))})$")

# Weights have at most five: (out, in, depth, height, width). Eight leaves room, and refuses damaged headers early.
MAX_DIMENSIONS = 8

# The tensors of one module by suffix.
Group = dict[str, LazyTensor]


@full_precision()
def from_state_dict(
    tensors: Mapping[str, Tensor | LazyTensor],
    name: str,
    metadata: Mapping[str, str] | None = None,
    check: CancelCheck = no_cancel,
    alpha_from: AlphaFrom | Literal["rslora"] = "trainer",
    config: PeftConfig | None = None,
) -> Lora:
    """The LoRA in a file's tensors. ``name`` is the LoRA's, ``config`` PEFT's configuration of the adapter.

    Tensors are read and checked module by module; each family decides what it leaves in the file (see its ``read``).
    ``alpha_from``: "trainer" counts a scale that only ``config`` or the metadata give, "tensors" doesn't, "rslora" is
    for old recipes (see trainer_scale.py).
    Raises LoraError, naming the module, for tensors of unknown adapter families, missing factors, shapes that disagree,
    alphas that aren't a single finite number, and NaN or infinite values.
    """
    metadata = metadata or {}
    lazy = {key: LazyTensor.of(value) if isinstance(value, Tensor) else value for key, value in tensors.items()}
    contents = _classified(layouts.normalised(lazy, name), name)
    scales = trainer_scale.read(contents.groups, name, metadata, alpha_from, config)
    corrections: list[float] = []
    adapters: list[Adapter] = []
    standard = _standard_names(contents.groups, name)
    for prefix, group in contents.groups.items():
        check()
        module = _materialized(standard.get(prefix, prefix), f"{name}: module {prefix}", group)
        corrections.append(scales.factor(prefix, module.values))
        if corrections[-1] != 1 and alpha_from != "tensors":
            module = _scaled(module, corrections[-1])
        for family, suffixes in _by_family(module.values).items():
            adapters += family.read(module.only(suffixes))
    architecture = recognise({adapter.name: adapter.weight_shape for adapter in adapters})
    notes = scales.difference(corrections)
    warnings = [*scales.doubts(), *contents.notes, *row_order.doubts(contents.groups, architecture, name)]
    for note in notes:
        log.info("%s", note)
    for warning in warnings:
        log.warning("%s", warning)
    return Lora(
        name,
        by_key(_joined(adapters, architecture, name)),
        metadata=metadata,
        source=scales.source(corrections),
        extras={key: _checked_extra(key, value, name) for key, value in contents.extras.items()},
        notes=(*notes, *warnings),
    )


def outline(tensors: Mapping[str, LazyTensor], name: str, metadata: Mapping[str, str] | None = None) -> Lora:
    """The LoRA that tensors with these keys and shapes describe: names, ranks and shapes are right, values needn't be.

    Nothing is checked for NaN, logged or scaled, so the tensors may be stand-ins. Raises LoraError as from_state_dict.
    """
    contents = _classified(layouts.normalised(tensors, name), name)
    standard = cleaned(contents.groups)
    adapters: list[Adapter] = []
    for prefix, group in contents.groups.items():
        values = {suffix: tensor.materialize() for suffix, tensor in group.items()}
        module = ModuleTensors(standard.get(prefix, prefix), f"{name}: module {prefix}", values, group)
        for family, suffixes in _by_family(values).items():
            adapters += family.read(module.only(suffixes))
    return Lora(name, by_key(adapters), metadata=metadata or {})


def _materialized(name: str, source: str, group: Group) -> ModuleTensors:
    values = {suffix: _read_finite(tensor, f"{source} ({suffix.lstrip('._')})") for suffix, tensor in group.items()}
    return ModuleTensors(name, source, values, group)


def _scaled(module: ModuleTensors, factor: float) -> ModuleTensors:
    values = trainer_scale.scaled(module.values, factor)
    for suffix in values.keys() - {ALPHA}:
        require_fits(values[suffix], f"{module.source} ({suffix.lstrip('._')})")
    return module.replaced(values)


def _checked_extra(key: str, value: LazyTensor, name: str) -> LazyTensor:
    _read_finite(value, f"{name}: {key}")
    return value


def _read_finite(value: LazyTensor, what: str) -> Tensor:
    """The tensor in memory. Raises LoraError, naming ``what``, if it holds NaN or Inf."""
    if len(value.shape) > MAX_DIMENSIONS:  # torch fails only at 64, after a long time
        raise LoraError(f"{what} has {len(value.shape)} dimensions. {DAMAGED}")
    tensor = value.materialize()
    require_finite(tensor, what)
    return tensor


def _joined(adapters: Sequence[Adapter], architecture: Architecture | None, name: str) -> Iterable[Adapter]:
    """The adapters of a file, with those of one weight under two of its names combined."""
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
    """A file's tensors by module and suffix, in file order, its embeddings, and notes on what is left out."""

    groups: dict[str, Group]
    extras: dict[str, LazyTensor]
    notes: list[str]


def _classified(tensors: Mapping[str, LazyTensor], name: str) -> _Contents:
    groups: dict[str, Group] = {}
    extras: dict[str, LazyTensor] = {}
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
        raise LoraError(f"{name} has no LoRA weights (it has {some} ...). Choose a LoRA file.")
    orphans = [prefix for prefix, group in groups.items() if group.keys() == {ALPHA}]
    if orphans:
        raise LoraError(f"{name}: module {orphans[0]} has an alpha but no weights. {INCOMPLETE}")
    return _Contents(groups, extras, [unsupported.left_out(unknown, groups, name)] if unknown else [])


def _standard_names(groups: Iterable[str], name: str) -> dict[str, str]:
    """Standard names for module names that no prefix explains; the log shows the first."""
    standard = cleaned(groups)
    if standard:
        first = next(iter(standard))
        log.warning(
            "%s: %d unusual module names are read as standard ones, %s as %s.",
            name,
            len(standard),
            first,
            standard[first],
        )
    return standard


def _by_family(suffixes: Iterable[str]) -> dict[ModuleType, set[str]]:
    """The suffixes of one module by family, each with the alpha.

    A dora_scale makes the module a DoRA, whichever family it decomposes, and a magnitude makes it PEFT's DoRA.
    """
    present = set(suffixes)
    families: dict[ModuleType, set[str]] = {}
    for suffix in suffixes:
        if suffix == ALPHA:
            continue
        family = _FAMILY_OF[suffix]
        if weight_dependent.DORA in present and family is not full:
            family = weight_dependent
        elif peft_dora.MAGNITUDE in present and family is lora:
            family = peft_dora
        families.setdefault(family, {ALPHA}).add(suffix)
    return families
