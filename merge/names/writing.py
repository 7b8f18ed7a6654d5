"""From a target to its names: the ones that every supported ComfyUI maps, and the one in each style."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from . import prefixes
from .model import GENERIC_ENCODER, NAMELESS_ENCODER, PARAMETER_PREFIX, Architecture, Encoder, Target
from .patterns import fill, flat
from .reading import canonical_prefix, resolve, target_of
from .row_range import ALL_ROWS
from .table import Alias

Style = Literal["kohya", "peft", "comfyui"]

# --- names that every supported ComfyUI maps ---


def loadable(name: str, architecture: Architecture | None) -> str:
    """The name to write a module under: its own if every supported ComfyUI maps it, otherwise one that they all map.

    Both have the same target. kohya's name comes first; rows of a fused weight have no kohya name and take the mapped
    name that is most like theirs. If all versions have no name in common (the rows of q, k and v in Lumina 2), the name
    stays.
    """
    if architecture is None:
        return prefixes.loadable(name)
    return _loadable(name, architecture)


@lru_cache(maxsize=50_000)
def _loadable(name: str, architecture: Architecture) -> str:
    target = resolve(name, architecture)
    mapped = list(mapped_names(target, architecture))
    if name in mapped:
        return name
    component, path = prefixes.split(name)
    if not mapped:
        return _loadable_outside_tables(name, component, path, target, architecture)
    if component == "model":
        kohya = ("lora_unet_" + prefixes.flatten(path), "lora_unet_" + target.weight.split(":", 1)[1])
    else:
        kohya = tuple(found for found in mapped if found.startswith("lora_te"))
    similar = [found for found in mapped if ("." in found) == ("." in name)]
    return next((found for found in kohya if found in mapped), (similar or mapped)[0])


def _loadable_outside_tables(name: str, component: str, path: str, target: Target, architecture: Architecture) -> str:
    """A name for a target that no name in the tables is mapped for. ComfyUI maps all of its model's own paths."""
    if component != "model":
        encoder = next((e for e in architecture.encoders if not e.name.startswith("clip_")), None)
        if component == "te" and path.startswith("transformer.") and encoder is not None:
            return f"text_encoders.{encoder.name}.{path}"
        return prefixes.loadable(name)
    own = architecture.own_paths.find(prefixes.flatten(path))
    if own is not None and own[0] in architecture.unmapped and name.startswith(architecture.diffusers_prefix):
        return name  # diffusers' prefix and ComfyUI's path: some versions map that
    if architecture.aliases.find(prefixes.flatten(path)) is not None or name.startswith(architecture.prefixes):
        return name
    return "lora_unet_" + target.weight.split(":", 1)[1]


def mapped_names(target: Target, architecture: Architecture) -> Iterator[str]:
    """Every name that all supported ComfyUIs map to these rows of this weight; those with its own path first."""
    component, path = target.weight.split(":", 1)
    if component != "model":
        yield from _mapped_in_encoder(component, path, architecture)
        return
    found = architecture.own_paths.find(path)
    if found is None:
        return
    pattern, numbers = found
    if target.is_whole and pattern not in architecture.unmapped:
        own_prefixes = (PARAMETER_PREFIX,) if pattern in architecture.parameters else architecture.prefixes
        yield from (_prefixed(prefix, fill(pattern, numbers)) for prefix in own_prefixes)
    for alias in architecture.aliases_by_weight.get(pattern, ()):
        if _has_rows(alias, target):
            yield from (_prefixed(prefix, fill(alias.path, numbers)) for prefix in alias.prefixes)


def name_of_whole(weight: str, architecture: Architecture) -> str:
    """A name for a whole weight that every supported ComfyUI maps; kohya's if possible.

    Raises LookupError if there is none.
    """
    mapped = list(mapped_names(Target(weight), architecture))
    return next((name for name in mapped if name.startswith("lora_unet_")), mapped[0])


# --- names in a style ---


def style_name(target: Target | str, architecture: Architecture | None, style: Style) -> str | None:
    """The name of a target (or of what a name stands for) in a style; None if it has no single name there.

    - kohya: `lora_unet_` and `lora_te` names as kohya's trainer writes them, for whole weights only.
    - peft: the names that diffusers loads: `unet.` or `transformer.`, `text_encoder.` and so on, and diffusers' path.
      A fused weight has no name of its own, only its rows have (``style_names``). Neither has a weight whose halves
      diffusers stores in the other order: the name there stands for the swapped target.
    - comfyui: `diffusion_model.` or `text_encoders.` and the path in ComfyUI's model, for whole weights only.
    """
    if architecture is None:
        return _unchanged(target, style) if isinstance(target, str) else None
    known = resolve(target, architecture) if isinstance(target, str) else target
    component, path = known.weight.split(":", 1)
    if component != "model":
        return _style_name_in_encoder(component, path, architecture, style) if known.is_whole else None
    found = architecture.own_paths.find(path)
    if style == "peft":
        return None if found is None else _in_diffusers(*found, known, architecture)
    if not known.is_whole:
        return None
    if found is not None and found[0] in architecture.parameters:
        return PARAMETER_PREFIX + fill(*found)  # the only name that ComfyUI maps
    if style == "comfyui":
        is_mapped = found is not None and found[0] not in architecture.unmapped
        return "diffusion_model." + fill(*found) if found is not None and is_mapped else None
    if found is not None and architecture.kohya == "diffusers":
        theirs = _in_diffusers(*found, known, architecture)
        if theirs is not None:
            return "lora_unet_" + flat(theirs.removeprefix(architecture.diffusers_prefix))
    return "lora_unet_" + path


def style_names(weight: str, architecture: Architecture, style: Style) -> list[tuple[str, Target]]:
    """The names that together make up a whole weight in a style, with their targets; none if the style can't name it.

    This is a single name if the style has one. Otherwise it is diffusers' names of a fused weight's rows, from top to
    bottom, or of the weight with its halves swapped.
    """
    whole = Target(weight)
    name = style_name(whole, architecture, style)
    if name is not None:
        return [(name, whole)]
    component, path = weight.split(":", 1)
    found = architecture.own_paths.find(path) if component == "model" and style == "peft" else None
    if found is None:
        return []
    pattern, numbers = found
    aliases = [alias for alias in architecture.aliases_by_weight.get(pattern, ()) if alias.diffusers]
    aliases.sort(key=lambda alias: alias.rows.start)
    edges = [*(alias.rows.start for alias in aliases), ALL_ROWS.stop]
    if not aliases or edges[0] != ALL_ROWS.start or [alias.rows.stop for alias in aliases] != edges[1:]:
        return []
    prefix = architecture.diffusers_prefix
    return [(prefix + fill(alias.path, numbers), target_of(alias, numbers)) for alias in aliases]


def _in_diffusers(pattern: str, numbers: dict[str, str], target: Target, architecture: Architecture) -> str | None:
    for alias in architecture.aliases_by_weight.get(pattern, ()):
        if alias.diffusers and _has_rows(alias, target):
            return architecture.diffusers_prefix + fill(alias.path, numbers)
    return None


def _has_rows(alias: Alias, target: Target) -> bool:
    return (alias.rows, alias.swapped) == (target.rows, target.swapped)


def _unchanged(name: str, style: Style) -> str | None:
    """The name of a module of an unknown model, if it is in the style already."""
    beginnings = {
        "kohya": ("lora_unet_", "lora_te"),
        "peft": ("unet.", "transformer.", "text_encoder"),
        "comfyui": ("diffusion_model.", "text_encoders."),
    }
    is_comfyui = style == "peft" and name.startswith("text_encoders.")
    return name if name.startswith(beginnings[style]) and not is_comfyui else None


def _prefixed(prefix: str, path: str) -> str:
    return prefix + (flat(path) if prefix.endswith("_") else path)


# --- text encoders ---


def _find_in_encoder(
    component: str, path: str, architecture: Architecture
) -> tuple[Encoder, str, dict[str, str]] | None:
    """The encoder, the pattern and its numbers of a weight with this canonical name."""
    weight = f"{component}:{path}"
    for encoder in architecture.encoders:
        prefix = canonical_prefix(encoder)
        if encoder.component == component and weight.startswith(prefix):
            found = encoder.table.find(weight.removeprefix(prefix))
            if found is not None:
                return encoder, *found
    return None


def _mapped_in_encoder(component: str, path: str, architecture: Architecture) -> Iterator[str]:
    found = _find_in_encoder(component, path, architecture)
    if found is None:
        return
    encoder, pattern, numbers = found
    dotted = fill(pattern, numbers)
    for prefix, weights in encoder.mapped_weights.items():
        if pattern in weights:
            yield _prefixed(prefix, dotted.removeprefix(encoder.root))
    named = [GENERIC_ENCODER + prefix + dotted for prefix in encoder.inner_prefixes]
    nameless = [NAMELESS_ENCODER + dotted] if encoder.nameless else []
    yield from dict.fromkeys([encoder.comfyui_prefix + dotted, *named, *nameless])


def _style_name_in_encoder(component: str, path: str, architecture: Architecture, style: Style) -> str | None:
    found = _find_in_encoder(component, path, architecture)
    if found is None:
        return None
    encoder, pattern, numbers = found
    dotted = fill(pattern, numbers)
    if style == "comfyui":
        return encoder.comfyui_prefix + dotted
    if style == "peft":
        return encoder.diffusers_prefix + dotted if encoder.diffusers_prefix else None
    mapped = encoder.mapped_weights.items()
    kohya = next((prefix for prefix, weights in mapped if prefix.startswith("lora_te") and pattern in weights), None)
    return None if kohya is None else kohya + flat(dotted.removeprefix(encoder.root))
