"""A LoRA with other module names: those of another program, or those that every supported ComfyUI loads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from ..adapters.architecture import architecture_of
from ..adapters.base import WEIGHT, Adapter, Lora, by_key
from ..adapters.combine import as_low_rank, join, unscaled
from ..adapters.retarget import retarget
from ..compute.precision import full_precision
from ..errors import LoraError
from ..names import (
    Architecture,
    Style,
    Target,
    loadable,
    mapped_names,
    name_of_whole,
    resolve,
    style_name,
    style_names,
)

# The styles as users call them.
STYLES: dict[Style, str] = {"kohya": "kohya", "peft": "PEFT / diffusers", "comfyui": "ComfyUI"}

AnyAdapter = TypeVar("AnyAdapter", bound=Adapter)


class Resolved(NamedTuple):
    """An adapter and the target of its name."""

    adapter: Adapter
    target: Target


def loadable_form(lora: Lora) -> Lora:
    """The LoRA with names that every supported ComfyUI maps. Exact.

    Only names that some version doesn't map are replaced. Adapters of some rows of a fused weight that have no mapped
    name (q, k and v of HunyuanVideo) become one module of the whole weight.
    """
    architecture = architecture_of(lora)
    modules: list[Adapter] = []
    for (weight, _), group in _by_weight(lora.modules.values(), architecture).items():
        fused = _to_fuse(weight, group, architecture)
        separate = [adapter for adapter, _ in group if all(adapter is not other for other, _ in fused)]
        modules += [_renamed(adapter, loadable(adapter.name, architecture)) for adapter in separate]
        if fused and architecture is not None:
            modules += _under_names([(name_of_whole(weight, architecture), Target(weight))], fused, lora.name)
    return replace(lora, modules=by_key(modules))


def _to_fuse(weight: str, group: Sequence[Resolved], architecture: Architecture | None) -> list[Resolved]:
    """The adapters to write as one module of the whole weight: those of unmapped rows, and of the whole weight.

    None if all rows have a mapped name or the whole weight has none. Adapters that depend on the model's weight can't
    be joined and stay separate.
    """
    if architecture is None or not any(mapped_names(Target(weight), architecture)):
        return []
    unmapped = [
        one
        for one in group
        if not (one.target.is_whole or one.adapter.needs_base or any(mapped_names(one.target, architecture)))
    ]
    return unmapped and [one for one in group if one.target.is_whole] + unmapped


@full_precision()
def convert_keys(lora: Lora, style: Style) -> Lora:
    """The LoRA with the names of a style; weights are fused or split where its program does so. Exact.

    In PEFT's style every module becomes a LoRA of two factors with alpha equal to the rank, since its files have no
    other kind and no alpha. Raises LoraError if the architecture isn't recognised, and for modules that the style has
    no name for or its files can't hold.
    """
    architecture = architecture_of(lora)
    if architecture is None:
        raise LoraError(
            f"{lora.name}: its module names don't tell what kind of model it is for, so it can't be written with "
            f"{STYLES[style]} names. Save it with the names of the first input."
        )
    modules: list[Adapter] = []
    for (weight, _), group in _by_weight(lora.modules.values(), architecture).items():
        names = style_names(weight, architecture, style) or _name_of_unlisted(weight, group, architecture, style)
        if not names:
            raise LoraError(
                f"{lora.name}: module {group[0].adapter.name} has no {STYLES[style]} name. "
                "Save it with the names of the first input."
            )
        modules += _under_names(names, group, lora.name)
    return replace(lora, modules=by_key(_in_form(module, style, lora.name) for module in modules))


def _by_weight(adapters: Iterable[Adapter], architecture: Architecture | None) -> dict[tuple[str, str], list[Resolved]]:
    """The adapters by canonical weight and parameter, in file order."""
    groups: dict[tuple[str, str], list[Resolved]] = {}
    for adapter in adapters:
        target = resolve(adapter.name, architecture)
        groups.setdefault((target.weight, adapter.parameter), []).append(Resolved(adapter, target))
    return groups


def _name_of_unlisted(
    weight: str, group: Sequence[Resolved], architecture: Architecture, style: Style
) -> list[tuple[str, Target]]:
    """The name of a weight that the tables don't have, if the style has one for the module's present name."""
    name = style_name(group[0].adapter.name, architecture, style)
    return [] if name is None else [(name, Target(weight))]


def _under_names(names: Sequence[tuple[str, Target]], group: Sequence[Resolved], source: str) -> Iterator[Adapter]:
    """The adapters of one weight under these names: brought to the rows of each name and added up there."""
    for name, wanted in names:
        joined: Adapter | None = None
        for adapter, present in group:
            if not present.rows.overlaps(wanted.rows):
                continue
            if adapter.needs_base and (present.rows, present.swapped) != (wanted.rows, wanted.swapped):
                raise LoraError(
                    f"{source}: {adapter.family} module {adapter.name} is for rows of a weight that these names divide "
                    "differently, and such a module can't be divided. Save it with the names of the first input."
                )
            found = _renamed(retarget(adapter, present, wanted, name), name)
            joined = found if joined is None else join(joined, found, f"{source}: module {name}")
        if joined is not None:
            yield joined


def _renamed(adapter: AnyAdapter, name: str) -> AnyAdapter:
    return replace(adapter, name=name)  # type: ignore[type-var]


def _in_form(adapter: Adapter, style: Style, source: str) -> Adapter:
    """The adapter in a form that the style's files can hold."""
    if style != "peft":
        return adapter
    in_peft = adapter.in_peft()
    if in_peft is not None:
        return in_peft
    if not adapter.has_factors or adapter.parameter != WEIGHT:
        raise LoraError(
            f"{source}: module {adapter.name} ({adapter.family}) can't be stored in files of PEFT and diffusers. "
            "Merge it with PM Merge LoRA SVD first, or save it with other names."
        )
    return unscaled(as_low_rank(adapter))
