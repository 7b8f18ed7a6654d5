"""Colours of pictures on a dark ground, and scales that turn numbers into colours."""

from __future__ import annotations

from collections.abc import Sequence

Colour = tuple[int, int, int]

GROUND: Colour = (32, 32, 34)
PANEL: Colour = (42, 42, 45)
TEXT: Colour = (226, 226, 228)
MUTED: Colour = (158, 158, 164)
LINE: Colour = (84, 84, 90)
ACCENT: Colour = (255, 196, 92)
# One for each curve of a plot.
CURVES: tuple[Colour, ...] = (
    (110, 178, 255),
    (255, 152, 90),
    (126, 214, 130),
    (222, 140, 240),
    (246, 220, 100),
    (120, 222, 222),
)

# From nothing to the most, ever brighter.
_HEAT: tuple[Colour, ...] = ((60, 54, 80), (100, 42, 124), (190, 58, 92), (246, 142, 40), (253, 246, 170))
# From against through nothing to together.
_DIVERGING: tuple[Colour, ...] = ((214, 48, 40), (240, 152, 132), (238, 238, 238), (138, 176, 236), (32, 96, 214))


def heat(value: float) -> Colour:
    """The colour of a number from 0 to 1. Its root sets the brightness, so that small numbers still differ."""
    return _between(_HEAT, max(0.0, min(1.0, value)) ** 0.5)


def diverging(value: float) -> Colour:
    """The colour of a number from -1 (red) through 0 (white) to 1 (blue)."""
    return _between(_DIVERGING, (max(-1.0, min(1.0, value)) + 1) / 2)


def _between(stops: Sequence[Colour], place: float) -> Colour:
    """The colour at a place from 0 to 1 along evenly spaced stops."""
    at = place * (len(stops) - 1)
    index = min(int(at), len(stops) - 2)
    part = at - index
    low, high = stops[index], stops[index + 1]
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    return red, green, blue
