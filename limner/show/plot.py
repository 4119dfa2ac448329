"""Line charts as SVG text: no plotting package is needed to read a report."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]

COLOURS = ("#2563eb", "#db2777", "#059669", "#d97706", "#7c3aed")
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 12, 44


@dataclass(frozen=True)
class Axes:
    """The range of values a chart shows, and where they stand on the page."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        """Return the pixel column of a value."""
        share = (value - self.low_x) / ((self.high_x - self.low_x) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the pixel row of a value."""
        share = (value - self.low_y) / ((self.high_y - self.low_y) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def line_chart(
    lines: Mapping[str, Points],
    x_label: str = "",
    y_label: str = "",
    levels: Mapping[str, float] | None = None,
) -> str:
    """Draw lines over common axes.

    Args:
        lines: name -> (x, y) points; values that are not finite are left out.
        x_label: below the chart.
        y_label: above the vertical axis.
        levels: name -> y of a dashed horizontal line, such as a baseline.

    Returns:
        An `<svg>` element as text.
    """
    lines = {name: [p for p in points if _finite(p)] for name, points in lines.items()}
    levels = levels or {}
    axes = _axes([p for points in lines.values() for p in points], list(levels.values()))
    parts = [_grid(axes, x_label, y_label)]
    labels = []
    for index, (name, points) in enumerate(lines.items()):
        if points:
            colour = COLOURS[index % len(COLOURS)]
            path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
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


def _finite(point: tuple[float, float]) -> bool:
    return all(math.isfinite(value) for value in point)


def _axes(points: Points, levels: Sequence[float]) -> Axes:
    xs = [x for x, _ in points] or [0.0, 1.0]
    ys = [y for _, y in points] + list(levels) or [0.0, 1.0]
    margin = 0.05 * (max(ys) - min(ys) or 1)
    return Axes(min(xs), max(xs), min(ys) - margin, max(ys) + margin)


def _grid(axes: Axes, x_label: str, y_label: str) -> str:
    parts = []
    for value in _ticks(axes.low_y, axes.high_y):
        row = axes.y(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{row:.1f}" y2="{row:.1f}" class="grid"/>'
            f'<text x="{LEFT - 8}" y="{row + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in _ticks(axes.low_x, axes.high_x):
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
