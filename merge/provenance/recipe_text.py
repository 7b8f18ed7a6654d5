"""A recipe as JSON text, bounded in depth and size, and back.

Recipes nest: an input that was itself made holds its own recipe under `made`. Merges of merges would grow without end,
so there are three bounds.

- Where the plain nested text would be longer than SHARE_ABOVE, a step that occurs several times is stored once, in the
  list `steps` of the outermost recipe, and `made` is its number there. Steps refer to lower numbers only.
- Steps more than MAX_GENERATIONS back are left out: the input says `"older_steps": "left out"` in place of `made`.
- So are the oldest steps of a text above MAX_BYTES.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

# At three levels of JSON each far from Python's own limit, which ComfyUI's call stack has used a part of already.
MAX_GENERATIONS = 100
# Of the whole text; metadata.py holds its own texts to it too.
MAX_BYTES = 4 * 2**20
SHARE_ABOVE = 64 * 2**10

STEPS = "steps"
OLDER_STEPS, LEFT_OUT = "older_steps", "left out"


@dataclass(frozen=True)
class _Step:
    """A recipe without those of its inputs, which are other steps: by the input's place, their numbers."""

    body: Mapping[str, object]
    made: Mapping[int, int]
    size: int  # of the body's text, in bytes


def text_of(recipe: Mapping[str, object]) -> str:
    """The text of a recipe whose inputs may hold those of ``parsed``. Never fails for what they hold."""
    try:
        return _bounded(recipe)
    except RecursionError:  # an input's recipe nests where ours never do
        log.warning("The recipe of an input nests too deep to be kept: it is left out of the result's.")
        return dumped(_body(recipe, range(len(_inputs(recipe)))))


def parsed(text: str | None) -> object:
    """The recipe in a text, a dict with each step in its place; the text itself where it is somebody else's.

    A step that is stored once is one object, so a walk through all of a recipe has to remember where it was.
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
            "The recipe goes back %d merges, and the oldest are left out of it: to make the result again from files, "
            "keep those in between.",
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
    place = {number: position for position, number in enumerate(shared)}

    def tree(number: int) -> dict[str, object]:
        step = steps[number]
        body = dict(step.body)
        if step.made:
            entries = list(_inputs(body))
            for position, made in step.made.items():
                if made not in kept:
                    entries[position] = {**entries[position], OLDER_STEPS: LEFT_OUT}
                else:
                    entries[position] = {**entries[position], "made": place[made] if made in place else tree(made)}
            body["inputs"] = entries
        return body

    whole = tree(len(steps) - 1)
    return dumped({**whole, STEPS: [tree(number) for number in shared]} if shared else whole)


def _collected(recipe: Mapping[str, object]) -> list[_Step]:
    """The different steps of a recipe, each after those that it is made of: the recipe itself is the last."""
    steps: list[_Step] = []
    by_text: dict[str, int] = {}
    by_object: dict[int, int] = {}
    waiting: list[Mapping[str, object]] = [recipe]
    while waiting:  # no recursion: a nested text of older versions may be deeper than it could go
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
    """How many merges each step is back from the last one, by the longest way."""
    generations = [0] * len(steps)
    for number in reversed(range(len(steps))):
        for made in steps[number].made.values():
            generations[made] = max(generations[made], generations[number] + 1)
    return generations


def _depth(steps: Sequence[_Step], generations: Sequence[int]) -> int:
    """How many generations fit into the bounds; the last step is there in any case."""
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
    """Put the first ``known`` steps in place of their numbers; a number that is none of theirs stays."""
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
    """The recipes of its inputs by their places."""
    for position, entry in enumerate(_inputs(recipe)):
        if isinstance(entry, dict) and isinstance(entry.get("made"), dict):
            yield position, entry["made"]


def _body(recipe: Mapping[str, object], left_out: Sequence[int] = ()) -> Mapping[str, object]:
    """A recipe without those of its inputs; the inputs at the places ``left_out`` say so."""
    if not any(isinstance(entry, dict) and "made" in entry for entry in _inputs(recipe)):
        return recipe
    entries = []
    for position, entry in enumerate(_inputs(recipe)):
        if isinstance(entry, dict) and "made" in entry:
            made = entry["made"]
            entry = {key: value for key, value in entry.items() if key != "made"}
            if isinstance(made, str) and len(made) <= SHARE_ABOVE:
                entry["made"] = made  # somebody else's text
            elif not isinstance(made, dict) or position in left_out:
                entry[OLDER_STEPS] = LEFT_OUT
        entries.append(entry)
    return {**recipe, "inputs": entries}
