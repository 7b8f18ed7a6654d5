"""Reads the values of an axis from a text such as ``0, 0.5, 1``, ``0..1 x 5`` or ``ties_svd, add_svd``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ..merge.errors import LoraError
from .axis_inputs import MAX_STEPS
from .values import require_decimal_points

# Chinese keyboards have other commas.
SEPARATORS = re.compile(r"[,;\r\n，；、]+")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
RANGE = re.compile(rf"({NUMBER.pattern})\s*\.\.\s*({NUMBER.pattern})\s*[x×*]\s*(\d+)", re.IGNORECASE | re.ASCII)
HOW_TO_LIST = "Write a list such as 0, 0.5, 1, or a range such as 0..1 x 5"
SIGNIFICANT_DIGITS = 6


def numbers(where: str, setting: str, text: str, least: float, most: float) -> list[float]:
    """The distinct numbers of a text in their order: separate ones, or ranges with both ends.

    Raises LoraError with the input (``where``), the word at fault and the ``setting`` it is for.
    """
    return _read(where, setting, text, least, most, whole=False)


def whole_numbers(where: str, setting: str, text: str, least: int, most: int) -> list[int]:
    """numbers() for whole ones; those of a range are rounded."""
    return [int(value) for value in _read(where, setting, text, least, most, whole=True)]


def names(where: str, setting: str, text: str, known: Sequence[str]) -> list[str]:
    """The distinct names of a text in their order. Raises LoraError for one that isn't ``known``."""
    found = []
    for part in _parts(text):
        word = " ".join(part.lower().split())
        # names without spaces may be separated by spaces, too
        words = [word] if word in known or any(" " in name for name in known) else word.split()
        for one in words:
            if one not in known:
                raise LoraError(f"{where} has {one!r}, which is no {setting}. Choose from {', '.join(known)}.")
            found.append(one)
    return _some(where, setting, found, f"List one or more of {', '.join(known)}, separated by commas.")


def _read(where: str, setting: str, text: str, least: float, most: float, whole: bool) -> list[float]:
    found: list[float] = []
    text = text.replace("\N{MINUS SIGN}", "-")
    if not whole:
        require_decimal_points(where, text)
    for part in _parts(text):
        if ".." in part:
            values = _range(where, part, whole)
            words = [part] * len(values)
        else:
            words = part.split()
            values = [_number(where, setting, word, whole) for word in words]
        for word, value in zip(words, values, strict=True):
            if not least <= value <= most:
                raise LoraError(
                    f"{where} has {word!r}, but {setting} must be between {_shown(least)} and {_shown(most)}."
                )
        found += values
    return _some(where, setting, found, HOW_TO_LIST + ".")


def _shown(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in SEPARATORS.split(text) if part.strip()]


def _some(where: str, setting: str, found: list, how: str) -> list:
    values = list(dict.fromkeys(found))
    if not values:
        raise LoraError(f"{where} has no values for {setting}. {how}")
    if len(values) > MAX_STEPS:
        raise LoraError(f"{where} has {len(values)} values for {setting}; at most {MAX_STEPS} fit on an axis.")
    return values


def _number(where: str, setting: str, word: str, whole: bool) -> float:
    if not NUMBER.fullmatch(word) or not math.isfinite(float(word)):
        raise LoraError(f"{where} has {word!r}, which is not a number. {HOW_TO_LIST}.")
    if not whole:
        return float(word)
    # not through float, which has not enough digits for a seed
    if WHOLE.fullmatch(word):
        return int(word)
    if float(word) != round(float(word)):
        raise LoraError(f"{where} has {word!r}, but {setting} must be a whole number.")
    return round(float(word))


def _range(where: str, word: str, whole: bool) -> list[float]:
    """Evenly spaced values with both ends, upwards or downwards."""
    found = RANGE.fullmatch(word)
    if found is None or "..." in word:  # 0...5 may be from 0 to 5, or to .5
        raise LoraError(f"{where} has the range {word!r}, which can't be read. Write it as 0..1 x 5: five values.")
    first, last = (_number(where, "", end, whole) for end in found.group(1, 2))
    # long numbers of digits would take time to read
    count = int(found[3]) if len(found[3]) <= 6 else 10**6
    if count > MAX_STEPS:
        raise LoraError(f"{where} has the range {word!r}; at most {MAX_STEPS} values fit on an axis.")
    if count < (1 if first == last else 2):
        raise LoraError(f"{where} has the range {word!r}, which needs 2 values or more, one for each end.")
    if first == last:
        return [first]
    if whole:
        steps = count - 1
        return [(first * (steps - i) + last * i + steps // 2) // steps for i in range(count)]
    # rounded so that 0.3 is exactly what a user would type, not 0.30000000000000004
    places = SIGNIFICANT_DIGITS - math.floor(math.log10(max(abs(first), abs(last))))
    between = [round(first + (last - first) * i / (count - 1), places) for i in range(1, count - 1)]
    return [first, *between, last]
