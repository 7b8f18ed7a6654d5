"""Small multiples as SVG: one panel for each curve, with a common reference. Text only, so that results can be compared
byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLUMNS = 4
WIDTH, HEIGHT = 210, 150  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 26, 28  # around the plot in it
CURVE, REFERENCE, GRID, INK = "#1f6fb4", "#9a9a9a", "#e4e4e4", "#333333"


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    title: str
    points: Sequence[Point]


def draw(title: str, x_label: str, panels: Sequence[Panel], reference: Panel | None, even: bool = False) -> str:
    """An SVG. The band is each point's interval, the grey line the reference's curve (or, of one point, its level).

    ``even`` spaces the values of x evenly, whatever their distances.
    """
    values = sorted({point.x for panel in panels for point in panel.points})
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="8" y="20" font-size="14" fill="{INK}">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        at = (number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + 30)
        parts += _panel(panel, reference, values, x_label, at, even)
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    panel: Panel, reference: Panel | None, values: Sequence[float], label: str, at: tuple[int, int], even: bool
) -> list[str]:
    left, right = at[0] + LEFT, at[0] + WIDTH - RIGHT
    top, bottom = at[1] + TOP, at[1] + HEIGHT - BOTTOM

    def x_of(x: float) -> float:
        if len(values) < 2:
            return (left + right) / 2
        share = values.index(x) / (len(values) - 1) if even else (x - values[0]) / (values[-1] - values[0])
        return round(left + (right - left) * share, 1)

    def y_of(y: float) -> float:
        return round(bottom - (bottom - top) * y, 1)

    def line(points: Sequence[tuple[float, float]], colour: str, more: str = "") -> str:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{more}/>'

    parts = [f'<text x="{left}" y="{at[1] + 16}" fill="{INK}" font-weight="bold">{escape(panel.title)}</text>']
    for level in (0, 0.5, 1):
        y = y_of(level)
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:g}" y2="{y:g}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 4:g}" fill="{INK}" text-anchor="end">{level:g}</text>')
    for value in values:
        parts.append(f'<text x="{x_of(value):g}" y="{bottom + 13}" fill="{INK}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{right}" y="{bottom + 25}" fill="{INK}" text-anchor="end">{escape(label)}</text>')
    if reference is not None:
        known = [point for point in reference.points if point.x in values]
        if len(reference.points) == 1:
            y = y_of(reference.points[0].y)
            parts.append(line([(left, y), (right, y)], REFERENCE, ' stroke-dasharray="5 4"'))
        elif known:
            parts.append(line([(x_of(p.x), y_of(p.y)) for p in known], REFERENCE, ' stroke-dasharray="5 4"'))
    points = sorted(panel.points, key=lambda point: point.x)
    band = [(x_of(p.x), y_of(p.high)) for p in points] + [(x_of(p.x), y_of(p.low)) for p in reversed(points)]
    outline = " ".join(f"{x:g},{y:g}" for x, y in band)
    parts.append(f'<polygon points="{outline}" fill="{CURVE}" fill-opacity="0.18"/>')
    parts.append(line([(x_of(p.x), y_of(p.y)) for p in points], CURVE))
    parts += [f'<circle cx="{x_of(p.x):g}" cy="{y_of(p.y):g}" r="3" fill="{CURVE}"/>' for p in points]
    return parts
