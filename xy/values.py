"""The values along an axis, and their labels."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence

from ..merge.errors import LoraError

# Efficiency's KSampler shrinks its font to fit labels and fails on long ones, only after all the sampling.
LABEL_LENGTH = 40
# How far, as a share of it, a number in a label may be from the value: 0.33 for a third, but not 0.13 for 0.125.
ROUNDING = 0.02
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
RANGE_FROM_COMMA = re.compile(r"(?<![\d.,])([+-]?\d+,\d+)\s*\.\.")
ANY_RANGE = re.compile(r"\S+\s*\.\.\s*\S+\s*[x×*]\s*\d+", re.IGNORECASE)


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
    for something that isn't a number from ``low`` to ``high``, and for decimal commas.
    """
    require_decimal_points("The list of values", text)
    return _listed(setting, text, low, high)


def words(text: str) -> list[str]:
    """The words of a text that commas, semicolons or white space separate; Chinese keyboards have other commas."""
    return re.findall(r"[^\s,;，；、]+", text)


def listed_integers(setting: str, text: str, low: int, high: int) -> list[int]:
    """listed() for whole numbers, which have no decimals."""
    numbers = _listed(setting, text, low, high)
    for number in numbers:
        if number != round(number):
            raise LoraError(f"The list of values has the {setting} {number:g}, which is not a whole number.")
    return [round(number) for number in numbers]


def _listed(setting: str, text: str, low: float, high: float) -> list[float]:
    numbers = []
    for word in words(text):
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


def require_decimal_points(where: str, text: str) -> None:
    """Raise LoraError for a text that seems to have decimal commas: in "0,5; 0,75" each would be read as two values.

    "0,1" and "0,1,2" are lists, and so is "0,1, 2"; "0,5 0,75" and "0,5, 1,0" hardly are.
    """
    found = re.findall(r"[^;\s]+", ANY_RANGE.sub(" ", text))
    pairs = [word for word in found if DECIMAL_COMMA.fullmatch(word.rstrip(","))]
    separated_by_commas = any(word.endswith(",") for word in found[:-1])
    suspicious = pairs if len(found) > 1 and (len(pairs) == len(found) or not separated_by_commas) else []
    suspicious = suspicious or RANGE_FROM_COMMA.findall(text)
    if suspicious:
        raise LoraError(
            f"{where} has {suspicious[0].rstrip(',')!r}, which would be two values. Write decimals with a point, such "
            "as 0.5; write two values with a space between them, such as 0, 5."
        )


def decimals(values: Sequence[float]) -> list[str]:
    """The values with two decimals, or more where needed to tell them apart or not to change them much."""
    for places in range(2, 7):
        texts = [f"{value + 0.0:.{places}f}" for value in values]
        pairs = zip(texts, values, strict=True)
        close = all(abs(float(text) - value) <= ROUNDING * abs(value) for text, value in pairs)
        if close and len(set(texts)) == len(set(values)):
            return texts
    for digits in (6, 9, 12):
        texts = [f"{value + 0.0:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)):
            return texts
    return [repr(value + 0.0) for value in values]


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


def named_values(names: Sequence[str], number: int, values: Sequence[str]) -> list[str]:
    """named_value() of one of several LoRAs, counted from 1, for each value; no other LoRA's labels are the same."""
    longest = max((len(value) for value in values), default=0)
    name = distinct_labels(names, LABEL_LENGTH - 1 - longest)[number - 1]
    return [named_value(name, value) for value in values]


def without_folders(name: str) -> str:
    """A LoRA's name without folders: "ink" for "styles/ink", "ink + film" for a merge of "styles/ink" and "film"."""
    return " + ".join(part.rpartition("/")[2] for part in name.split(" + "))


def distinct_labels(paths: Sequence[str], length: int = LABEL_LENGTH) -> list[str]:
    """A label for each of some paths or names of LoRAs: its last part, or as much of it as tells them apart."""
    whole = [" ".join(path.split()) for path in paths]
    last = {path: without_folders(path) for path in whole}
    ambiguous = {name for name, count in Counter(last.values()).items() if count > 1}
    return distinct_lines([path if last[path] in ambiguous else last[path] for path in whole], length)


def distinct_lines(texts: Sequence[str], length: int) -> list[str]:
    """one_line() for each text, but no two are the same.

    Of texts that differ only where ``one_line`` would cut them, the part in which they differ is shown; where that
    isn't enough, or they don't differ at all, they are numbered.
    """
    labels = [one_line(text, length) for text in texts]
    for label in {label for label in labels if labels.count(label) > 1}:
        alike = list(dict.fromkeys(text for text, other in zip(texts, labels, strict=True) if other == label))
        if len(alike) > 1:
            parts = dict(zip(alike, _differing_parts(alike, length), strict=True))
            labels = [parts.get(text, other) for text, other in zip(texts, labels, strict=True)]
    marks = [f" #{number}" if labels.count(label) > 1 else "" for number, label in enumerate(labels, 1)]
    return [one_line(label, length - len(mark)) + mark for label, mark in zip(labels, marks, strict=True)]


def _differing_parts(texts: Sequence[str], length: int) -> list[str]:
    """Texts cut to a length, around the first place in which they differ."""
    texts = [" ".join(text.split()) for text in texts]
    shared = os.path.commonprefix(texts)
    start = max(0, len(shared) - length // 4)
    ends = [text[start:] for text in texts]
    cut = [end if len(end) < length else end[: length - 2] + "…" for end in ends]
    return ["…" * (start > 0) + text for text in cut]
