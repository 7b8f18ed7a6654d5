"""What a name means in an architecture, and what a weight is called in each style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

from . import prefixes
from .model import GENERIC_ENCODER, NAMELESS_ENCODER, PARAMETER_PREFIX, Architecture, Encoder, Target
from .patterns import fill, flat
from .table import WHOLE, Rule

Style = Literal["kohya", "peft", "comfyui"]


def target(name: str, architecture: Architecture | None) -> Target:
    """What a module's name means; of an unknown architecture, the weight of the name's own path as a whole."""
    if architecture is None:
        return Target(prefixes.canonical(name))
    return _target(name, architecture)


@lru_cache(maxsize=50_000)
def _target(name: str, architecture: Architecture) -> Target:
    part, path = prefixes.split(name)
    if part != "model":
        found = _encoder_anywhere(part, path, architecture)
        return Target(prefixes.canonical(name) if found is None else _encoder_weight(*found))
    path = prefixes.flatten(path)
    if architecture.own.find(path) is None:
        alias = architecture.aliases.find(path)
        if alias is not None:
            rule, numbers = alias
            return _of_rule(rule, numbers)
    return Target(f"model:{path}")


def _of_rule(rule: Rule, numbers: dict[str, str]) -> Target:
    return Target(f"model:{flat(fill(rule.weight, numbers))}", rule.start, rule.stop, rule.swapped)


def loadable(name: str, architecture: Architecture | None) -> str:
    """The name to write a module under: as it is where every supported ComfyUI maps it, else one that all of them map.

    It means the same rows of the same weight. kohya's spelling comes first; rows of a fused weight have none, and take
    the nearest that maps. Where no name is mapped by all (the parts of q, k and v of Lumina 2), the name stays.
    """
    if architecture is None:
        return prefixes.loadable(name)
    return _loadable(name, architecture)


@lru_cache(maxsize=50_000)
def _loadable(name: str, architecture: Architecture) -> str:
    meaning = _target(name, architecture)
    names = list(mapped_names(meaning, architecture))
    if name in names:
        return name
    part, path = prefixes.split(name)
    if not names:
        return _unlisted(name, part, path, meaning, architecture)
    if part == "model":
        kohya = ("lora_unet_" + prefixes.flatten(path), "lora_unet_" + meaning.weight.split(":", 1)[1])
    else:
        kohya = tuple(found for found in names if found.startswith("lora_te"))
    alike = [found for found in names if ("." in found) == ("." in name)]
    return next((found for found in kohya if found in names), (alike or names)[0])


def _unlisted(name: str, part: str, path: str, meaning: Target, architecture: Architecture) -> str:
    """A name for what the tables don't hold. ComfyUI maps any weight of its model by its own path, if this is it."""
    if part != "model":
        encoder = next((e for e in architecture.encoders if not e.name.startswith("clip_")), None)
        if part == "te" and path.startswith("transformer.") and encoder is not None:
            return f"text_encoders.{encoder.name}.{path}"
        return prefixes.loadable(name)
    own = architecture.own.find(prefixes.flatten(path))
    if own is not None and own[0] in architecture.unmapped and name.startswith(architecture.peft):
        return name  # diffusers' prefix before ComfyUI's path: some versions map that
    if architecture.aliases.find(prefixes.flatten(path)) is not None or name.startswith(architecture.prefixes):
        return name
    return "lora_unet_" + meaning.weight.split(":", 1)[1]


def mapped_names(meaning: Target, architecture: Architecture) -> Iterator[str]:
    """Every name by which all supported ComfyUIs map these rows of this weight; those of its own path first."""
    part, path = meaning.weight.split(":", 1)
    if part != "model":
        yield from _mapped_in_encoder(part, path, architecture)
        return
    found = architecture.own.find(path)
    if found is None:
        return
    pattern, numbers = found
    if meaning.is_whole and pattern not in architecture.unmapped:
        prefixes = (PARAMETER_PREFIX,) if pattern in architecture.parameters else architecture.prefixes
        yield from (_behind(prefix, fill(pattern, numbers)) for prefix in prefixes)
    for rule in architecture.spellings.get(pattern, ()):
        if (rule.start, rule.stop, rule.swapped) == (meaning.start, meaning.stop, meaning.swapped):
            yield from (_behind(prefix, fill(rule.alias, numbers)) for prefix in rule.prefixes)


def name_of_whole(weight: str, architecture: Architecture) -> str:
    """The name to write a whole weight under: kohya's where every supported ComfyUI maps it, else one that all map.

    Raises LookupError where there is none.
    """
    names = list(mapped_names(Target(weight), architecture))
    return next((name for name in names if name.startswith("lora_unet_")), names[0])


def spell(meaning: Target | str, architecture: Architecture | None, style: Style) -> str | None:
    """What a weight, or rows of it, is called in a style; None where it has no name of its own there.

    - kohya: `lora_unet_` and `lora_te` names as kohya's trainer writes them. They are of whole weights.
    - peft: what diffusers loads, `unet.` or `transformer.` and its path, `text_encoder.` and the like. A fused weight
      has no name, its parts have (``split_spelling``); nor has a weight whose halves diffusers keeps swapped, under
      the name that means them in order.
    - comfyui: `diffusion_model.` and `text_encoders.` with the path in ComfyUI's model. They are of whole weights.
    """
    if architecture is None:
        return _as_it_is(meaning, style) if isinstance(meaning, str) else None
    known = _target(meaning, architecture) if isinstance(meaning, str) else meaning
    part, path = known.weight.split(":", 1)
    if part != "model":
        return _spell_in_encoder(part, path, architecture, style) if known.is_whole else None
    found = architecture.own.find(path)
    if style == "peft":
        return None if found is None else _in_diffusers(*found, known, architecture)
    if not known.is_whole:
        return None
    if found is not None and found[0] in architecture.parameters:
        return PARAMETER_PREFIX + fill(*found)  # the only name that ComfyUI maps
    if style == "comfyui":
        usable = found is not None and found[0] not in architecture.unmapped
        return "diffusion_model." + fill(*found) if found is not None and usable else None
    if found is not None and architecture.kohya == "diffusers":
        theirs = _in_diffusers(*found, known, architecture)
        if theirs is not None:
            return "lora_unet_" + flat(theirs.removeprefix(architecture.peft))
    return "lora_unet_" + path


def split_spelling(weight: str, architecture: Architecture, style: Style) -> list[tuple[str, Target]]:
    """The names that together are a whole weight in a style, each with what it means; none where it can't be said.

    One name where the style has one, else diffusers' names of the parts of a fused weight, from its first row to its
    last. A name whose target is ``swapped`` means the weight with the halves of its rows in the other order.
    """
    whole = Target(weight)
    name = spell(whole, architecture, style)
    if name is not None:
        return [(name, whole)]
    part, path = weight.split(":", 1)
    found = architecture.own.find(path) if part == "model" and style == "peft" else None
    if found is None:
        return []
    pattern, numbers = found
    rules = [rule for rule in architecture.spellings.get(pattern, ()) if rule.diffusers]
    rules.sort(key=lambda rule: rule.start)
    edges = [*(rule.start for rule in rules), WHOLE[1]]
    if not rules or edges[0] != WHOLE[0] or [rule.stop for rule in rules] != edges[1:]:
        return []
    return [(architecture.peft + fill(rule.alias, numbers), _of_rule(rule, numbers)) for rule in rules]


def _in_diffusers(pattern: str, numbers: dict[str, str], meaning: Target, architecture: Architecture) -> str | None:
    for rule in architecture.spellings.get(pattern, ()):
        same = (rule.start, rule.stop, rule.swapped) == (meaning.start, meaning.stop, meaning.swapped)
        if rule.diffusers and same:
            return architecture.peft + fill(rule.alias, numbers)
    return None


def _as_it_is(name: str, style: Style) -> str | None:
    """A name of an unknown model, if it is of the style already."""
    begins = {
        "kohya": ("lora_unet_", "lora_te"),
        "peft": ("unet.", "transformer.", "text_encoder"),
        "comfyui": ("diffusion_model.", "text_encoders."),
    }
    other = style == "peft" and name.startswith("text_encoders.")
    return name if name.startswith(begins[style]) and not other else None


def _behind(prefix: str, path: str) -> str:
    return prefix + (flat(path) if prefix.endswith("_") else path)


# --- text encoders ---


def in_encoder(part: str, path: str, architecture: Architecture) -> tuple[Encoder, str] | None:
    """The encoder that a name is of, and the flat path below its root."""
    encoders = architecture.encoders
    if part == "te":
        for encoder in encoders:
            for place in (*encoder.places, f"{encoder.name}."):
                below = prefixes.flatten(path.removeprefix(place))
                if path.startswith(place) and (place or encoder.knows(below)):
                    return encoder, encoder.below_root(below)
        if path.startswith("transformer."):  # ComfyUI 0.33: any encoder that is no CLIP, whatever its name
            below = prefixes.flatten(path.removeprefix("transformer."))
            nameless = [encoder for encoder in encoders if not encoder.name.startswith("clip_")]
            return _that_knows(below, nameless) or next(((e, e.below_root(below)) for e in nameless), None)
        return None
    flattened = prefixes.flatten(path)
    numbered = architecture.encoder_of(part)
    if numbered is None or not numbered.knows(flattened):
        # trainers number encoders that ComfyUI doesn't, such as HunyuanVideo's Llama
        other = _that_knows(
            flattened, [encoder for encoder in encoders if encoder.part in ("te", part) or part in encoder.also]
        )
        if other is not None or numbered is None:
            return other
    return numbered, numbered.below_root(flattened)


def _encoder_anywhere(part: str, path: str, architecture: Architecture) -> tuple[Encoder, str] | None:
    """As ``in_encoder``; but where the number's encoder has no such path, the only one that has it.

    ComfyUI numbers those that are loaded: without CLIP-G, SD 3's T5 is the second.
    """
    found = in_encoder(part, path, architecture)
    if found is not None and found[0].knows(found[1]):
        return found
    flattened = prefixes.flatten(path)
    others = [encoder for encoder in architecture.encoders if encoder.knows(flattened)]
    return (others[0], others[0].below_root(flattened)) if len(others) == 1 else found


def _that_knows(path: str, encoders: Sequence[Encoder]) -> tuple[Encoder, str] | None:
    """The last of the encoders that has a flat path: in ComfyUI's map the later ones overwrite the others."""
    for encoder in reversed(encoders):
        if encoder.knows(path):
            return encoder, encoder.below_root(path)
    return None


def _encoder_weight(encoder: Encoder, path: str) -> str:
    """A weight's canonical name. An encoder without a number is told by its name."""
    return _head(encoder) + path


def _head(encoder: Encoder) -> str:
    return f"te:{flat(encoder.place + encoder.root)}" if encoder.part == "te" else f"{encoder.part}:"


def _listed(part: str, path: str, architecture: Architecture) -> tuple[Encoder, str, dict[str, str]] | None:
    """The encoder, the pattern and its numbers of a weight by its canonical name."""
    weight = f"{part}:{path}"
    for encoder in architecture.encoders:
        if encoder.part == part and weight.startswith(_head(encoder)):
            found = encoder.table.find(weight.removeprefix(_head(encoder)))
            if found is not None:
                return encoder, *found
    return None


def _mapped_in_encoder(part: str, path: str, architecture: Architecture) -> Iterator[str]:
    found = _listed(part, path, architecture)
    if found is None:
        return
    encoder, pattern, numbers = found
    dotted = fill(pattern, numbers)
    for prefix, weights in encoder.kohya.items():
        if pattern in weights:
            yield _behind(prefix, dotted.removeprefix(encoder.root))
    named = [GENERIC_ENCODER + place + dotted for place in encoder.places]
    nameless = [NAMELESS_ENCODER + dotted] if encoder.nameless else []
    yield from dict.fromkeys([encoder.generic + dotted, *named, *nameless])


def _spell_in_encoder(part: str, path: str, architecture: Architecture, style: Style) -> str | None:
    found = _listed(part, path, architecture)
    if found is None:
        return None
    encoder, pattern, numbers = found
    dotted = fill(pattern, numbers)
    if style == "comfyui":
        return encoder.generic + dotted
    if style == "peft":
        return encoder.diffusers + dotted if encoder.diffusers else None
    prefix = next((p for p, weights in encoder.kohya.items() if p.startswith("lora_te") and pattern in weights), None)
    return None if prefix is None else prefix + flat(dotted.removeprefix(encoder.root))
