"""Numbers and names in sentences."""

from __future__ import annotations

from collections.abc import Sequence

NOT_MEASURED = "not measured"


def number(value: float | None) -> str:
    """Two significant digits, or all of a whole number: 0.013, 1.7, 78, 133."""
    if value is None:
        return NOT_MEASURED
    if value == 0:
        return "0"
    if abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) < 1e4 else f"{value:.0f}"


def percent(share: float | None) -> str:
    """A share as a percentage: 31 %, 0.4 %, 0 %."""
    if share is None:
        return NOT_MEASURED
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 or value < 0.05 else f"{value:.1f} %"


def cosine(value: float | None) -> str:
    """Two decimals, without a sign before a zero."""
    if value is None:
        return NOT_MEASURED
    text = f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def listed(words: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def shortened(text: str, most: int) -> str:
    """A text of at most this many characters, cut in the middle."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def letters(count: int) -> list[str]:
    """A, B, ... Z, A1, ...: short names for the LoRAs of a picture."""
    return [chr(ord("A") + i % 26) + (str(i // 26) if i >= 26 else "") for i in range(count)]
