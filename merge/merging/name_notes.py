"""What a merge tells the user about names that it could not be sure of. Each note is one to three sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ..adapters.architecture import architectures_of
from ..adapters.base import Lora
from ..names import ARCHITECTURES, Architecture, candidates, is_known, resolve
from .key_resolver import KeyResolver

UNKNOWN = "module names are"
CONNECT = "Connect the model and clip to decide what the names mean."


def on_names(loras: Sequence[Lora], resolver: KeyResolver, inputs_of: Sequence[set[int]]) -> tuple[str, ...]:
    """The notes on a merge. ``inputs_of``: for each weight of the result, the indices (from 1) of its LoRAs."""
    notes = [note for lora in loras if (note := on_unknown_names(lora, resolver))]
    used = sorted(set().union(*inputs_of)) if inputs_of else []
    if len(used) > 1:
        notes += _on_disjoint(loras, used, inputs_of, resolver)
        notes += _on_ambiguous_names(loras, resolver)
    return tuple(notes)


def _on_disjoint(
    loras: Sequence[Lora], used: Sequence[int], inputs_of: Sequence[set[int]], resolver: KeyResolver
) -> list[str]:
    """The note on LoRAs that share no weight with any other LoRA, not even one at strength 0."""
    separate = [index for index in used if not any({index} < inputs for inputs in inputs_of)]
    if not separate:
        return []
    weights = {index: {resolver.resolve(m.name).weight for m in loras[index - 1].modules.values()} for index in used}
    alone = [
        loras[index - 1].name
        for index in separate
        if all(weights[index].isdisjoint(weights[other]) for other in used if other != index)
    ]
    if not alone:
        return []
    names = " and ".join(alone if len(alone) == len(used) else [*alone, "the other LoRAs"])
    return [f"{names} have no weight in common.{'' if resolver.model else f' {CONNECT}'}"]


def on_unknown_names(lora: Lora, resolver: KeyResolver) -> str | None:
    """The note on module names that neither the tables nor the connected model know; None if there are none."""
    unknown = unknown_names(lora, resolver)
    if not unknown:
        return None
    counted = f"{lora.name}: {len(unknown)} of {len(_used_names(lora))} {UNKNOWN} unknown ({unknown[0]}"
    counted += f" and {len(unknown) - 1} more)." if len(unknown) > 1 else ")."
    if resolver.model is not None:
        return f"{counted} The connected model has no such weights: ComfyUI will not load these modules."
    known_without_shapes = candidates(dict.fromkeys(unknown, ())) if len(unknown) == len(_used_names(lora)) else ()
    if known_without_shapes:
        shape = "x".join(map(str, next(m for m in lora.modules.values() if m.name == unknown[0]).weight_shape))
        return (
            f"{lora.name}: its {UNKNOWN} those of {known_without_shapes[0].name}, but its shapes are not "
            f"({unknown[0]}: {shape}). They are merged only with modules of the same name. {CONNECT}"
        )
    return f"{counted} They are merged only with modules of the same name, and ComfyUI may not load them. {CONNECT}"


def says_unknown(lora: Lora) -> bool:
    """Whether the LoRA's notes mention unknown names already: its own, or those of LoRAs that it was merged from."""
    return any(UNKNOWN in note for note in lora.notes)


def unknown_names(lora: Lora, resolver: KeyResolver) -> list[str]:
    """The module names that nothing resolves. A name that is known to one of several possible families counts."""
    possible: Sequence[Architecture] = architectures_of(lora) if resolver.naming is None else ()
    return [n for n in _used_names(lora) if not (resolver.knows(n) or any(is_known(n, a) for a in possible))]


def _used_names(lora: Lora) -> list[str]:
    """The names of the modules with a strength other than 0."""
    return list(dict.fromkeys(m.name for m in lora.modules.values() if lora.strength_of(m) != 0))


def _on_ambiguous_names(loras: Sequence[Lora], resolver: KeyResolver) -> list[str]:
    """The note on the first LoRA that fits several families which resolve its names differently."""
    if not resolver.ambiguous:
        return []
    for lora in loras:
        first_of_family = {a.family: a for a in reversed(architectures_of(lora))}
        if any(len({resolve(name, a) for a in first_of_family.values()}) > 1 for name in _used_names(lora)):
            families = " or ".join(a.name for a in ARCHITECTURES if a in first_of_family.values())
            return [
                f"{lora.name} could be for {families}, so different names of one weight may not be merged with each "
                f"other. {CONNECT}"
            ]
    return []
