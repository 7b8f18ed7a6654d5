"""What a merge says about names that it could not be sure of. Each note is one or two sentences for the user."""

from __future__ import annotations

from collections.abc import Sequence

from ..adapters.architecture import architectures_of
from ..adapters.base import Lora
from ..names import ARCHITECTURES, Architecture, candidates, is_known, target
from .key_resolver import KeyResolver

UNKNOWN = "module names are"
CONNECT = "Connect the model and clip: they decide what the names mean."


def on_names(loras: Sequence[Lora], resolver: KeyResolver, met: Sequence[set[int]]) -> tuple[str, ...]:
    """The notes on a merge. ``met``: for each weight of the result, the numbers (from 1) of its LoRAs."""
    notes = [note for lora in loras if (note := on_unknown_names(lora, resolver))]
    used = sorted(set().union(*met)) if met else []
    alone = [loras[number - 1].name for number in used if not any({number} < numbers for numbers in met)]
    if len(used) > 1 and alone:
        who = " and ".join(alone if len(alone) == len(used) else [*alone, "the other LoRAs"])
        notes.append(f"{who} have no weight in common.{'' if resolver.model else f' {CONNECT}'}")
    doubt = _doubt(loras, resolver) if len(used) > 1 else None
    return tuple(notes + ([doubt] if doubt else []))


def on_unknown_names(lora: Lora, resolver: KeyResolver) -> str | None:
    """The note on module names that neither the tables nor the connected model know; None if there are none."""
    unknown = unknown_names(lora, resolver)
    if not unknown:
        return None
    counted = f"{lora.name}: {len(unknown)} of {len(_counted(lora))} {UNKNOWN} unknown ({unknown[0]}"
    counted += f" and {len(unknown) - 1} more)." if len(unknown) > 1 else ")."
    if resolver.model is not None:
        return f"{counted} The connected model has no such weights: ComfyUI will not load these modules."
    alike = candidates(dict.fromkeys(unknown, ())) if len(unknown) == len(_counted(lora)) else ()
    if alike:
        shape = "x".join(map(str, next(m for m in lora.modules.values() if m.name == unknown[0]).weight_shape))
        return (
            f"{lora.name}: its {UNKNOWN} those of {alike[0].name}, its shapes are not ({unknown[0]}: {shape}). "
            f"They merge only with modules of the same spelling. {CONNECT}"
        )
    return f"{counted} They merge only with modules of the same spelling, and ComfyUI may not load them. {CONNECT}"


def says_unknown(lora: Lora) -> bool:
    """Whether the LoRA's notes speak of unknown names already: its own, or those of what it was merged from."""
    return any(UNKNOWN in note for note in lora.notes)


def unknown_names(lora: Lora, resolver: KeyResolver) -> list[str]:
    """The module names that nothing says the meaning of. A name that fits several families counts as known."""
    possible: Sequence[Architecture] = architectures_of(lora) if resolver.reads_as is None else ()
    return [n for n in _counted(lora) if not (resolver.knows(n) or any(is_known(n, a) for a in possible))]


def _counted(lora: Lora) -> list[str]:
    """The names of the modules that count for something."""
    return list(dict.fromkeys(m.name for m in lora.modules.values() if lora.strength_of(m) != 0))


def _doubt(loras: Sequence[Lora], resolver: KeyResolver) -> str | None:
    """The note on LoRAs whose names fit several families, where these read them differently."""
    if not resolver.in_doubt:
        return None
    for lora in loras:
        possible = architectures_of(lora)
        first_of = {a.family: a for a in reversed(possible)}
        if any(len({target(name, a) for a in first_of.values()}) > 1 for name in _counted(lora)):
            families = " or ".join(a.name for a in ARCHITECTURES if a in first_of.values())
            return f"{lora.name} could be for {families}, so spellings of one weight may not meet. {CONNECT}"
    return None
