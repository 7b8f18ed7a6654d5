"""A recipe in one line: `add_svd, analog x 1.0, disney x 1.0`."""

from __future__ import annotations

from collections.abc import Mapping

from .recipe_text import parsed

MAX_INPUTS = 12


def summary_of(text: str | None) -> str:
    """The operation and inputs of a recipe; empty if the text isn't one.

    Of an input that was itself made, only the operation is named: recipes nest without limit.
    """
    recipe = parsed(text)
    if not isinstance(recipe, Mapping) or not isinstance(recipe.get("inputs"), list):
        return ""
    inputs = [entry for entry in recipe["inputs"] if isinstance(entry, Mapping)]
    shown = [_input(entry) for entry in inputs[:MAX_INPUTS]]
    if len(inputs) > MAX_INPUTS:
        shown.append(f"{len(inputs) - MAX_INPUTS} more")
    parts = [_operation(recipe), *shown]
    strength = _strength(recipe) if {"strength_model", "strength_clip"} & recipe.keys() else ""
    return ", ".join(filter(None, parts)) + (f"; all{strength}" if strength else "")


def _operation(recipe: Mapping[str, object]) -> str:
    operation = str(recipe.get("operation", "unknown operation"))
    if operation == "resize":
        return f"resize to rank {recipe.get('rank')}"
    return "" if operation == "load" else str(recipe.get("mode", operation))


def _input(entry: Mapping[str, object]) -> str:
    text = str(entry.get("name", "unnamed"))
    made = entry.get("made")
    if isinstance(made, Mapping) and (operation := _operation(made)):
        text += f" (made by {operation})"
    if {"strength_model", "strength_clip"} & entry.keys():
        text += _strength(entry)
    weights = entry.get("block_weights")
    if isinstance(weights, list) and weights:
        text += f" with block weights {' and '.join(map(str, weights))}"
    return text


def _strength(entry: Mapping[str, object]) -> str:
    model, clip = (entry.get(f"strength_{part}", 1.0) for part in ("model", "clip"))
    return f" x {model}" if model == clip else f" x {model} (text encoder x {clip})"
