"""What the page shows about the LoRA files of ComfyUI's loras folders, as JSON."""

from __future__ import annotations

import logging
from pathlib import Path

from ..merge.errors import LoraError
from ..merge.facts import cached_by_state, facts_of, presets_that_fit, recipe_of
from ..merge.files import load
from ..merge.merging.lora_norm import lora_norm
from ..merge.provenance.sidecars import preview_of, states_of
from . import comfy_bridge, presets
from .stack import display_name

log = logging.getLogger(__name__)

Json = dict[str, object]


def _state(path: Path) -> object:
    return comfy_bridge.state_of(path), states_of(path)


_facts_of = cached_by_state(facts_of, _state)


def facts(name: str) -> Json:
    """The facts of a listed file; {"error": sentence} if it is gone or no LoRA."""
    try:
        path = _path(name)
        found = _facts_of(path, display_name(name))
        fitting = presets_that_fit(path, display_name(name), presets.offered())
    except (LoraError, OSError) as error:
        return {"error": _sentence(name, error)}
    return {
        "summary": found.summary,
        "family": found.family,
        "group": found.group,
        "modules": found.modules,
        "adapters": found.adapters,
        "trigger_words": found.trigger_words,
        "base_model": found.base_model,
        "has_preview": found.has_preview,
        "has_recipe": found.has_recipe,
        "presets": fitting,
    }


def details(name: str) -> Json:
    """The facts, the norm of all deltas, which reads the whole file, and the text of the recipe."""
    found = facts(name)
    if "error" in found:
        return found
    try:
        path = _path(name)
        lora = load(path, display_name(name))
        known = not any(module.is_weight_dependent for module in lora.modules.values())
        norm = lora_norm(lora) if known else None  # None: it depends on the model's weights
        return {**found, "norm": norm, "recipe": recipe_of(path, display_name(name))}
    except (LoraError, OSError) as error:
        return {"error": _sentence(name, error)}


def overview() -> Json:
    """Family and summary of every listed file, for the search."""
    found: Json = {}
    for name in comfy_bridge.lora_names():
        path = comfy_bridge.find_lora(name)
        if path is None:
            continue
        try:
            one = _facts_of(path, display_name(name))
            found[name] = {"family": one.family, "summary": one.summary}
        except (LoraError, OSError) as error:
            found[name] = {"family": None, "error": _sentence(name, error)}
    return found


def preview(name: str) -> Path | None:
    """The preview picture of a listed file, or None."""
    try:
        return preview_of(_path(name))
    except (LoraError, OSError):
        return None


def _path(name: str) -> Path:
    """The path of a file that ComfyUI lists. Never made from the name itself, which comes from a request."""
    listed = comfy_bridge.listed_lora(name)
    path = None if listed is None else comfy_bridge.find_lora(listed)
    if path is None:
        raise LoraError(f"{name or 'A file without a name'} is not in ComfyUI's loras folders.")
    return path


def _sentence(name: str, error: Exception) -> str:
    return str(error) if isinstance(error, LoraError) else f"{name} can't be read."
