"""A recipe as JSON text of limited depth and size, and back.

Recipes nest: an input that was made has its own recipe under `made`. With merges of merges they would grow without
limit, so there are three rules:

- If the plain nested text would be longer than SHARE_ABOVE, a step that occurs several times is stored once, in the
  list `steps` of the outermost recipe, and `made` is its index there. Steps refer to lower indices only.
- Steps more than MAX_GENERATIONS back are left out: the input has `"older_steps": "left out"` instead of `made`.
- The oldest steps are also left out as long as the text is longer than MAX_BYTES.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Each takes three levels of JSON: well below Python's recursion limit, some of which ComfyUI's call stack takes up.
MAX_GENERATIONS = 100
# Of the whole text, and of each of metadata.py's own texts.
MAX_BYTES = 4 * 2**20
SHARE_ABOVE = 64 * 2**10

STEPS = "steps"
OLDER_STEPS, LEFT_OUT = "older_steps", "left out"


@dataclass(frozen=True)
class _Step:
    """One recipe without those of its inputs. ``made``: by the input's position, the index of its recipe's step."""

    body: Mapping[str, object]
    made: Mapping[int, int]
    size: int  # bytes of the body's text


def text_of(recipe: Mapping[str, object]) -> str:
    """The text of a recipe whose inputs may have recipes from ``parsed``; never raises, whatever those contain."""
    try:
        return _bounded(recipe)
    except RecursionError:  # an input's recipe nests in a place where ours never do
        log.warning("The recipe of an input is nested too deeply to be kept. The result's recipe leaves it out.")
        return dumped(_body(recipe, range(len(_inputs(recipe)))))


def parsed(text: str | None) -> object:
    """The recipe in a text, with shared steps put back in their places; the text itself if it isn't a recipe.

    A shared step is one object that occurs several times, so code that walks a recipe must remember visited steps.
    """
    try:
        recipe = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text
    if not isinstance(recipe, dict):
        return text
    if isinstance(recipe.get(STEPS), list):
        steps = recipe.pop(STEPS)
        for number, step in enumerate([*steps, recipe]):
            _resolve(step, steps, number)
    return recipe


def dumped(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def size_of(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _bounded(recipe: Mapping[str, object]) -> str:
    steps = _collected(recipe)
    generations = _generations(steps)
    depth = _depth(steps, generations)
    kept = {number for number, generation in enumerate(generations) if generation <= depth}
    if len(kept) < len(steps):
        log.warning(
            "The recipe goes back %d merges, and the oldest are left out. To make the result again, keep the files of "
            "the merges in between.",
            max(generations),
        )
    uses = [0] * len(steps)
    nested = [0] * len(steps)
    for number, step in enumerate(steps):
        inner = [made for made in step.made.values() if made in kept]
        nested[number] = step.size + sum(nested[made] for made in inner)
        for made in inner if number in kept else ():
            uses[made] += 1
    shared = [number for number in sorted(kept) if uses[number] > 1] if nested[-1] > SHARE_ABOVE else []
    index = {number: position for position, number in enumerate(shared)}

    def tree(number: int) -> dict[str, object]:
        step = steps[number]
        body = dict(step.body)
        if step.made:
            entries = list(_inputs(body))
            for position, made in step.made.items():
                if made not in kept:
                    entries[position] = {**entries[position], OLDER_STEPS: LEFT_OUT}
                else:
                    entries[position] = {**entries[position], "made": index[made] if made in index else tree(made)}
            body["inputs"] = entries
        return body

    whole = tree(len(steps) - 1)
    return dumped({**whole, STEPS: [tree(number) for number in shared]} if shared else whole)


def _collected(recipe: Mapping[str, object]) -> list[_Step]:
    """The distinct steps of a recipe, each after those of its inputs; the recipe itself comes last."""
    steps: list[_Step] = []
    by_text: dict[str, int] = {}
    by_object: dict[int, int] = {}
    waiting: list[Mapping[str, object]] = [recipe]
    while waiting:  # not recursive: nested texts of older versions can be deeper than the recursion limit
        current = waiting[-1]
        made = dict(_made_inputs(current))
        inner = [step for step in made.values() if id(step) not in by_object]
        if inner:
            waiting += inner
            continue
        waiting.pop()
        if id(current) in by_object:
            continue
        numbers = {position: by_object[id(step)] for position, step in made.items()}
        body = _body(current)
        text = dumped(body)
        number = by_text.setdefault(f"{text}{sorted(numbers.items())}", len(steps))
        if number == len(steps):
            steps.append(_Step(body, numbers, size_of(text)))
        by_object[id(current)] = number
    return steps


def _generations(steps: Sequence[_Step]) -> list[int]:
    """How many merges each step is before the last one, by the longest path."""
    generations = [0] * len(steps)
    for number in reversed(range(len(steps))):
        for made in steps[number].made.values():
            generations[made] = max(generations[made], generations[number] + 1)
    return generations


def _depth(steps: Sequence[_Step], generations: Sequence[int]) -> int:
    """How many generations fit within the limits; the last step always does."""
    sizes = [0] * (max(generations) + 1)
    for step, generation in zip(steps, generations, strict=True):
        sizes[generation] += step.size
    total, depth = sizes[0], 0
    for size in sizes[1 : MAX_GENERATIONS + 1]:
        total += size
        if total > MAX_BYTES:
            break
        depth += 1
    return depth


def _resolve(recipe: object, steps: Sequence[object], known: int) -> None:
    """Replace the indices of the first ``known`` steps with these steps; other numbers stay."""
    waiting = [recipe]
    while waiting:
        for entry in _inputs(waiting.pop()):
            made = entry.get("made") if isinstance(entry, dict) else None
            if isinstance(made, dict):
                waiting.append(made)
            elif type(made) is int and 0 <= made < known:
                entry["made"] = steps[made]


def _inputs(recipe: object) -> list:
    inputs = recipe.get("inputs") if isinstance(recipe, Mapping) else None
    return inputs if isinstance(inputs, list) else []


def _made_inputs(recipe: Mapping[str, object]) -> Iterator[tuple[int, dict[str, object]]]:
    """The recipes of the inputs, by position."""
    for position, entry in enumerate(_inputs(recipe)):
        if isinstance(entry, dict) and isinstance(entry.get("made"), dict):
            yield position, entry["made"]


def _body(recipe: Mapping[str, object], left_out: Sequence[int] = ()) -> Mapping[str, object]:
    """A recipe without those of its inputs; the inputs at the positions ``left_out`` are marked as such."""
    if not any(isinstance(entry, dict) and "made" in entry for entry in _inputs(recipe)):
        return recipe
    entries = []
    for position, entry in enumerate(_inputs(recipe)):
        if isinstance(entry, dict) and "made" in entry:
            made = entry["made"]
            entry = {key: value for key, value in entry.items() if key != "made"}
            if isinstance(made, str) and len(made) <= SHARE_ABOVE:
                entry["made"] = made  # text of another program
            elif not isinstance(made, dict) or position in left_out:
                entry[OLDER_STEPS] = LEFT_OUT
        entries.append(entry)
    return {**recipe, "inputs": entries}
