"""Line charts as SVG text: no plotting package is needed to read a report."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from limner.core.files import replaced

Points = Sequence[tuple[float, float]]

COLOURS = ("#2563eb", "#db2777", "#059669", "#d97706", "#7c3aed")
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 12, 44


@dataclass(frozen=True)
class Axes:
    """The range of values a chart shows, and where they stand on the page.

    Bounds of logarithmic axes are those of the logarithms.
    """

    low_x: float
    high_x: float
    low_y: float
    high_y: float
    logarithmic: bool = False

    def x(self, value: float) -> float:
        """Return the pixel column of a value."""
        share = (self.scaled(value) - self.low_x) / ((self.high_x - self.low_x) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the pixel row of a value."""
        share = (self.scaled(value) - self.low_y) / ((self.high_y - self.low_y) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def scaled(self, value: float) -> float:
        """Return what the bounds are bounds of."""
        return math.log10(value) if self.logarithmic else value

    def ticks(self, low: float, high: float) -> list[float]:
        """Return about five round values between two bounds."""
        if not self.logarithmic:
            return _ticks(low, high)
        powers = range(math.floor(low), math.ceil(high) + 1)
        for leading in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            values = [first * 10.0**power for power in powers for first in leading]
            inside = [value for value in values if low <= math.log10(value) <= high]
            if len(inside) >= 3:
                return inside[:: 1 + len(inside) // 7]
        return _ticks(10**low, 10**high)


def line_chart(
    lines: Mapping[str, Points],
    x_label: str = "",
    y_label: str = "",
    levels: Mapping[str, float] | None = None,
    dots: Collection[str] = (),
    logarithmic: bool = False,
) -> str:
    """Draw lines over common axes.

    Args:
        lines: name -> (x, y) points; values that are not finite are left out, and on logarithmic
            axes those that are not above 0.
        x_label: below the chart.
        y_label: above the vertical axis.
        levels: name -> y of a dashed horizontal line, such as a baseline.
        dots: lines whose points are dots that nothing joins.
        logarithmic: both axes are.

    Returns:
        An `<svg>` element as text.
    """
    least = 0.0 if logarithmic else -math.inf
    lines = {
        name: [point for point in points if _finite(point) and min(point) > least]
        for name, points in lines.items()
    }
    levels = levels or {}
    every = [point for points in lines.values() for point in points]
    axes = _axes(every, list(levels.values()), logarithmic)
    parts = [_grid(axes, x_label, y_label)]
    labels = []
    for index, (name, points) in enumerate(lines.items()):
        if points:
            colour = COLOURS[index % len(COLOURS)]
            places = [(axes.x(x), axes.y(y)) for x, y in points]
            parts += _dots(places, colour) if name in dots else _line(places, colour)
            labels.append((axes.y(points[-1][1]), f"{name} {points[-1][1]:.3g}", colour))
    for name, value in levels.items():
        row = axes.y(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{row:.1f}" y2="{row:.1f}" '
            'stroke="#888" stroke-dasharray="5 4"/>'
        )
        labels.append((row, f"{name} {value:.3g}", "#888"))
    parts += _names(labels)
    view = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg {view} role="img" class="chart">{"".join(parts)}</svg>'


def save_chart(chart: str, path: str | os.PathLike[str]) -> None:
    """Write a chart as an SVG file of its own, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    style = "<style>text { font: 12px sans-serif; } .grid { stroke: #8884; }</style>"
    head, rest = chart.split(">", 1)
    with replaced(path) as temporary:
        text = f'{head} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'
        temporary.write_text(text, encoding="utf-8")


def _line(places: Points, colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']


def _dots(places: Points, colour: str) -> list[str]:
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]


def _finite(point: tuple[float, float]) -> bool:
    return all(math.isfinite(value) for value in point)


def _axes(points: Points, levels: Sequence[float], logarithmic: bool) -> Axes:
    xs = [x for x, _ in points] or [1.0, 2.0]
    ys = [y for _, y in points] + list(levels) or [1.0, 2.0]
    if logarithmic:
        xs, ys = ([math.log10(value) for value in values] for values in (xs, ys))
    margin = 0.05 * (max(ys) - min(ys) or 1)
    return Axes(min(xs), max(xs), min(ys) - margin, max(ys) + margin, logarithmic)


def _grid(axes: Axes, x_label: str, y_label: str) -> str:
    parts = []
    for value in axes.ticks(axes.low_y, axes.high_y):
        row = axes.y(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{row:.1f}" y2="{row:.1f}" class="grid"/>'
            f'<text x="{LEFT - 8}" y="{row + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in axes.ticks(axes.low_x, axes.high_x):
        column = axes.x(value)
        parts.append(
            f'<text x="{column:.1f}" y="{HEIGHT - BOTTOM + 18}" '
            f'text-anchor="middle">{value:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
        f'<text x="{LEFT + 6}" y="{TOP + 10}">{html.escape(y_label)}</text>'
    )
    return "".join(parts)


def _names(labels: list[tuple[float, str, str]]) -> list[str]:
    """Write the names right of the chart, moved apart where they would overlap."""
    parts, free = [], -math.inf
    for wanted, text, colour in sorted(labels):
        row = max(wanted, free)
        free = row + 15
        parts.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{row + 4:.1f}" fill="{colour}" '
            f'style="fill:{colour}">{html.escape(text)}</text>'
        )
    return parts


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round values between two bounds."""
    rough = (high - low) / count or 1
    power = 10.0 ** math.floor(math.log10(abs(rough)))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]
