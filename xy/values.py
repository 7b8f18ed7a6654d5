"""The values along an axis, and their labels."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence

from ..merge.errors import LoraError

# Efficiency's KSampler shrinks its font to fit labels and fails on long ones, only after all the sampling.
LABEL_LENGTH = 40
# How far, as a share of it, a number in a label may be from the value: 0.33 for a third, but not 0.13 for 0.125.
ROUNDING = 0.02


def evenly_spaced(setting: str, low: float, high: float, steps: int) -> list[float]:
    """Distinct values from ``low`` to ``high``, both included; a single step gives only ``low``.

    Raises LoraError, naming the ``setting``, if ``low`` is above ``high`` or there are fewer than 1 steps.
    """
    if low > high:
        raise LoraError(f"min_{setting} ({low:g}) is above max_{setting} ({high:g}). Swap them.")
    if steps < 1:
        raise LoraError(f"The {setting} axis has {steps} steps, so no values. Use 1 or more.")
    # rounded so that 0.3 is exactly what a user would type, not 0.30000000000000004
    between = [round(low + (high - low) * i / (steps - 1), 6) for i in range(1, steps - 1)]
    return list(dict.fromkeys([low, *between, *([high] if steps > 1 else [])]))


def evenly_spaced_integers(setting: str, low: int, high: int, steps: int) -> list[int]:
    """evenly_spaced() rounded to whole numbers, again distinct."""
    return list(dict.fromkeys(round(value) for value in evenly_spaced(setting, low, high, steps)))


def listed(setting: str, text: str, low: float, high: float) -> list[float]:
    """The distinct numbers in a text such as "0.4, 0.7, 1", in their order; empty for an empty text.

    Separated by commas, semicolons, spaces or lines. Raises LoraError, naming the ``setting`` and the word at fault,
    for something that isn't a number from ``low`` to ``high``.
    """
    numbers = []
    for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;")) if text.strip(" \t\r\n,;") else []:
        try:
            number = float(word)
        except ValueError:
            raise LoraError(
                f"The list of values has {word!r}, which is not a number. Write e.g. 0.4, 0.7, 1."
            ) from None
        if not math.isfinite(number) or not low <= number <= high:
            raise LoraError(f"The list of values has the {setting} {word}; it must be between {low:g} and {high:g}.")
        numbers.append(number)
    return list(dict.fromkeys(numbers))


def listed_integers(setting: str, text: str, low: int, high: int) -> list[int]:
    """listed() for whole numbers."""
    numbers = listed(setting, text, low, high)
    for number in numbers:
        if number != round(number):
            raise LoraError(f"The list of values has the {setting} {number:g}, which is not a whole number.")
    return [round(number) for number in numbers]


def decimals(values: Sequence[float]) -> list[str]:
    """The values with two decimals, or more where needed to tell them apart or not to change them much."""
    for places in range(2, 7):
        texts = [f"{value + 0.0:.{places}f}" for value in values]
        pairs = zip(texts, values, strict=True)
        close = all(abs(float(text) - value) <= ROUNDING * abs(value) for text, value in pairs)
        if close and len(set(texts)) == len(set(values)):
            return texts
    return [f"{value:g}" for value in values]


def one_line(text: str, length: int = LABEL_LENGTH) -> str:
    """The text on one line, shortened in the middle: the beginning and end of a file name say most."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return text[: length - 1 - tail] + "…" + text[len(text) - tail :]


def named_value(name: str, value: str) -> str:
    """A label such as "style_lora 0.75". Only the name is ever shortened, never the value."""
    return f"{one_line(name, LABEL_LENGTH - 1 - len(value))} {value}"


def distinct_labels(paths: Sequence[str]) -> list[str]:
    """A label for each of some different paths: its last part, or as much of the path as tells them apart.

    Of names that differ only where ``one_line`` would cut them, the part in which they differ is shown.
    """
    whole = [" ".join(path.split()) for path in paths]
    last = [path.rpartition("/")[2] for path in whole]
    texts = [name if last.count(name) == 1 else path for name, path in zip(last, whole, strict=True)]
    labels = [one_line(text) for text in texts]
    if len(set(labels)) < len(labels):
        alike = [place for place, label in enumerate(labels) if labels.count(label) > 1]
        for place, label in zip(alike, _differing_parts([texts[place] for place in alike]), strict=True):
            labels[place] = label
    # names that differ in several far places
    return [
        f"{one_line(label, LABEL_LENGTH - 5)} #{number}" if labels.count(label) > 1 else label
        for number, label in enumerate(labels, 1)
    ]


def _differing_parts(texts: Sequence[str]) -> list[str]:
    """Texts cut to a label's length, around the first place in which they differ."""
    shared = os.path.commonprefix(texts)
    start = max(0, len(shared) - LABEL_LENGTH // 4)
    ends = [text[start:] for text in texts]
    cut = [end if len(end) < LABEL_LENGTH else end[: LABEL_LENGTH - 2] + "…" for end in ends]
    return ["…" * (start > 0) + text for text in cut]
