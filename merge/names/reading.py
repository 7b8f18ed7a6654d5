"""From a module's name to its target: which weight of the model it stands for, and which rows of that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from . import prefixes
from .model import Architecture, Encoder, Target
from .patterns import fill, flat
from .table import Alias


def resolve(name: str, architecture: Architecture | None) -> Target:
    """The target of a module's name. Without an architecture it is always the whole weight at the name's own path."""
    if architecture is None:
        return Target(prefixes.canonical(name))
    return _resolve(name, architecture)


@lru_cache(maxsize=50_000)
def _resolve(name: str, architecture: Architecture) -> Target:
    component, path = prefixes.split(name)
    if component != "model":
        found = _any_encoder(component, path, architecture)
        return Target(prefixes.canonical(name) if found is None else canonical_prefix(found[0]) + found[1])
    path = prefixes.flatten(path)
    if architecture.own_paths.find(path) is None:
        found = architecture.aliases.find(path)
        if found is not None:
            return target_of(*found)
    return Target(f"model:{path}")


def target_of(alias: Alias, numbers: dict[str, str]) -> Target:
    """The target of an alias with these numbers for its placeholders."""
    return Target(f"model:{flat(fill(alias.weight, numbers))}", alias.rows, alias.swapped)


def canonical_prefix(encoder: Encoder) -> str:
    """How canonical names of an encoder's weights begin; an encoder without a number has its name there."""
    if encoder.component == "te":
        return f"te:{flat(encoder.inner_prefix + encoder.root)}"
    return f"{encoder.component}:"


def in_encoder(component: str, path: str, architecture: Architecture) -> tuple[Encoder, str] | None:
    """The encoder that a name belongs to, and the flat path below its root."""
    if component == "te":
        return _by_name(path, architecture.encoders)
    flattened = prefixes.flatten(path)
    numbered = architecture.encoder_of(component)
    if numbered is None or not numbered.knows(flattened):
        # trainers also number encoders that ComfyUI doesn't, such as HunyuanVideo's Llama
        others = [e for e in architecture.encoders if e.component in ("te", component) or component in e.also]
        other = _last_with(flattened, others)
        if other is not None or numbered is None:
            return other
    return numbered, numbered.below_root(flattened)


def _by_name(path: str, encoders: Sequence[Encoder]) -> tuple[Encoder, str] | None:
    """The encoder whose name the path begins with."""
    for encoder in encoders:
        for prefix in (*encoder.inner_prefixes, f"{encoder.name}."):
            below = prefixes.flatten(path.removeprefix(prefix))
            if path.startswith(prefix) and (prefix or encoder.knows(below)):
                return encoder, encoder.below_root(below)
    if path.startswith("transformer."):  # ComfyUI 0.33: any encoder but CLIP, whatever its name
        below = prefixes.flatten(path.removeprefix("transformer."))
        nameless = [encoder for encoder in encoders if not encoder.name.startswith("clip_")]
        return _last_with(below, nameless) or next(((e, e.below_root(below)) for e in nameless), None)
    return None


def _any_encoder(component: str, path: str, architecture: Architecture) -> tuple[Encoder, str] | None:
    """Like ``in_encoder``, but if that encoder lacks the path, the only one that has it.

    ComfyUI numbers the encoders that are loaded: without CLIP-G, SD 3's T5 is the second.
    """
    found = in_encoder(component, path, architecture)
    if found is not None and found[0].knows(found[1]):
        return found
    flattened = prefixes.flatten(path)
    others = [encoder for encoder in architecture.encoders if encoder.knows(flattened)]
    return (others[0], others[0].below_root(flattened)) if len(others) == 1 else found


def _last_with(path: str, encoders: Sequence[Encoder]) -> tuple[Encoder, str] | None:
    """The last encoder that has a flat path: in ComfyUI's key map the later ones overwrite the others."""
    for encoder in reversed(encoders):
        if encoder.knows(path):
            return encoder, encoder.below_root(path)
    return None
