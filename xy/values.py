"""The values along an axis, and how they read in a label."""

from __future__ import annotations

from collections.abc import Sequence

from ..merge.errors import LoraError

# Efficiency's KSampler shrinks its font to fit a label and fails on long ones, after all the sampling.
LABEL_LENGTH = 40


def evenly_spaced(what: str, low: float, high: float, steps: int) -> list[float]:
    """Values from ``low`` to ``high``, both included; one step is ``low`` alone. Equal ones count once.

    ``what`` names the axis in the LoraError for a range that is upside down or a number of steps below 1.
    """
    if low > high:
        raise LoraError(f"min_{what} ({low:g}) is above max_{what} ({high:g}). Exchange them.")
    if steps < 1:
        raise LoraError(f"The {what} axis has {steps} steps, so it has no values. Give it 1 or more.")
    # rounded, so that 0.3 is what it would be typed as and not 0.30000000000000004
    between = [round(low + (high - low) * i / (steps - 1), 6) for i in range(1, steps - 1)]
    return list(dict.fromkeys([low, *between, *([high] if steps > 1 else [])]))


def evenly_spaced_integers(what: str, low: int, high: int, steps: int) -> list[int]:
    """The same for whole numbers, each the nearest to its evenly spaced value."""
    return list(dict.fromkeys(round(value) for value in evenly_spaced(what, low, high, steps)))


def decimals(values: Sequence[float]) -> list[str]:
    """The values with two decimals, or with as many more as tell them apart."""
    for places in range(2, 7):
        texts = [f"{value + 0.0:.{places}f}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def one_line(text: str, length: int = LABEL_LENGTH) -> str:
    """The text without line breaks, cut in the middle where it is longer: the ends of file names tell most."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return text[: length - 1 - tail] + "…" + text[len(text) - tail :]


def named_value(name: str, value: str) -> str:
    """A label such as "style_lora 0.75": it is the name that is shortened, never the value."""
    return f"{one_line(name, LABEL_LENGTH - 1 - len(value))} {value}"
