"""A LoRA under other names: those of another program, or those that every supported ComfyUI loads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from ..adapters.architecture import architecture_of
from ..adapters.base import WEIGHT, Adapter, Lora, by_key
from ..adapters.combine import as_low_rank, join, unscaled
from ..adapters.row_slices import cut_out, rows_of, set_into, swap_halves
from ..compute.precision import full_precision
from ..errors import LoraError
from ..names import Architecture, Style, Target, loadable, mapped_names, name_of_whole, spell, split_spelling, target

# Style -> how a user calls it
STYLES: dict[Style, str] = {"kohya": "kohya", "peft": "PEFT / diffusers", "comfyui": "ComfyUI"}

AnyAdapter = TypeVar("AnyAdapter", bound=Adapter)
# The adapters of one parameter of one weight, each with the rows that its name means.
Group = list[tuple[Adapter, Target]]


def loadable_form(lora: Lora) -> Lora:
    """The LoRA as every supported ComfyUI loads it. Exact.

    Names that not all of them map are replaced; parts of a fused weight without such a name become one module of the
    whole weight (HunyuanVideo's q, k and v).
    """
    architecture = architecture_of(lora)
    modules: list[Adapter] = []
    for (weight, _), group in _by_weight(lora.modules.values(), architecture).items():
        joined = _without_a_name(weight, group, architecture)
        apart = [adapter for adapter, _ in group if all(adapter is not other for other, _ in joined)]
        modules += [_renamed(adapter, loadable(adapter.name, architecture)) for adapter in apart]
        if joined and architecture is not None:
            modules += _in_parts([(name_of_whole(weight, architecture), Target(weight))], joined, lora.name)
    return replace(lora, modules=by_key(modules))


def _without_a_name(weight: str, group: Group, architecture: Architecture | None) -> Group:
    """The adapters of a weight's rows whose names ComfyUI does not map, with those of the whole weight that they join.

    None where the whole weight has no name either, and none that depends on the model's weight: those can't be joined.
    """
    if architecture is None or not any(mapped_names(Target(weight), architecture)):
        return []
    nameless = [
        (adapter, rows)
        for adapter, rows in group
        if not (rows.is_whole or adapter.needs_base or any(mapped_names(rows, architecture)))
    ]
    return nameless and [(adapter, rows) for adapter, rows in group if rows.is_whole] + nameless


@full_precision()
def convert_keys(lora: Lora, style: Style) -> Lora:
    """The LoRA under the names of a style, with weights fused or cut into parts as its program has them. Exact.

    In PEFT's style everything is a LoRA of two factors with alpha equal to the rank, since its files hold nothing else.
    Raises LoraError where the architecture isn't recognised, and for modules that the style has no name or form for.
    """
    architecture = architecture_of(lora)
    if architecture is None:
        raise LoraError(
            f"{lora.name}: its names don't tell what kind of model it is for, so it can't be written in the names of "
            f"{STYLES[style]}. Save it in the names of the first input."
        )
    modules: list[Adapter] = []
    for (weight, _), present in _by_weight(lora.modules.values(), architecture).items():
        parts = split_spelling(weight, architecture, style) or _as_named(weight, present, architecture, style)
        if not parts:
            raise LoraError(
                f"{lora.name}: module {present[0][0].name} has no name that {STYLES[style]} knows. "
                "Save it in the names of the first input."
            )
        modules += _in_parts(parts, present, lora.name)
    return replace(lora, modules=by_key(_in_form(m, style, lora.name) for m in modules))


def _by_weight(adapters: Iterable[Adapter], architecture: Architecture | None) -> dict[tuple[str, str], Group]:
    """The adapters by canonical weight and parameter, in file order."""
    groups: dict[tuple[str, str], Group] = {}
    for adapter in adapters:
        meaning = target(adapter.name, architecture)
        groups.setdefault((meaning.weight, adapter.parameter), []).append((adapter, meaning))
    return groups


def _as_named(
    weight: str, present: Sequence[tuple[Adapter, Target]], architecture: Architecture, style: Style
) -> list[tuple[str, Target]]:
    """The name of what the tables don't hold as a weight, if the style has one for the name itself."""
    name = spell(present[0][0].name, architecture, style)
    return [] if name is None else [(name, Target(weight))]


def _in_parts(
    parts: Sequence[tuple[str, Target]], present: Sequence[tuple[Adapter, Target]], source: str
) -> Iterator[Adapter]:
    """The changes of one weight as the style's names cut it."""
    for name, part in parts:
        whole: Adapter | None = None
        for adapter, meaning in present:
            if not (meaning.start < part.stop and part.start < meaning.stop):
                continue
            same_rows = (meaning.start, meaning.stop) == (part.start, part.stop)
            if adapter.needs_base and not (same_rows and meaning.swapped == part.swapped):
                raise LoraError(
                    f"{source}: {adapter.family} module {adapter.name} is for rows of a weight that these names cut in "
                    "another way, which it can't be. Save it in the names of the first input."
                )
            if same_rows:
                found = _renamed(adapter, name)
            elif meaning.start <= part.start and part.stop <= meaning.stop:
                found = cut_out(adapter, name, part.start, part.stop)
            else:
                found = set_into(adapter, name, meaning.start, int(rows_of(adapter, meaning)))
            if meaning.swapped != part.swapped:
                found = swap_halves(found, name)
            whole = found if whole is None else join(whole, found, f"{source}: module {name}")
        if whole is not None:
            yield whole


def _renamed(adapter: AnyAdapter, name: str) -> AnyAdapter:
    return replace(adapter, name=name)  # type: ignore[type-var]


def _in_form(adapter: Adapter, style: Style, source: str) -> Adapter:
    if style != "peft":
        return adapter
    own = adapter.in_peft()
    if own is not None:
        return own
    if not adapter.has_factors or adapter.parameter != WEIGHT:
        raise LoraError(
            f"{source}: module {adapter.name} ({adapter.family}) has no form in files of PEFT and diffusers. "
            "Merge it with PM Merge LoRA SVD first, or save it in other names."
        )
    return unscaled(as_low_rank(adapter))
