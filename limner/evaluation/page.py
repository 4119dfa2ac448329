"""The pages of `limner eval` and `limner compare`: reports with intervals drawn to scale."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.core.config import to_dict
from limner.data.images import to_float
from limner.evaluation.evaluate import Evaluated
from limner.evaluation.result import ALBUM, RESULT, Number, Protocol, SetFacts
from limner.metrics.references import write_reference
from limner.show.plot import COLOURS
from limner.show.report import Report

REPORT = "report.html"
SHOWN = 32  # pictures of a set on a page
ROW, LEFT, MIDDLE, RIGHT, MARGIN = 22, 160, 290, 250, 10  # pixels of a chart


@dataclass(frozen=True)
class Span:
    """A row of a chart.

    Args:
        name: left of it.
        value: a dot.
        low: where its whisker begins.
        high: where its whisker ends.
    """

    name: str
    value: float
    low: float
    high: float


class Page(Report):
    """A report that can show intervals."""

    def intervals(self, spans: Sequence[Span], label: str) -> None:
        """Add a chart of values and their intervals, a row each, over one axis."""
        self._parts.append(f"<h4>{html.escape(label)}</h4>{interval_chart(spans)}")


def interval_chart(spans: Sequence[Span]) -> str:
    """Return values and their intervals as an `<svg>` element; values stand right of them."""
    least = min(min(span.low, span.value) for span in spans)
    reach = (max(max(span.high, span.value) for span in spans) - least) or 1.0

    def column(value: float) -> float:
        return LEFT + MARGIN + (value - least) / reach * (MIDDLE - 2 * MARGIN)

    parts = []
    for index, span in enumerate(spans):
        row, colour = ROW * index + ROW / 2, COLOURS[index % len(COLOURS)]
        low, value, high = map(column, (span.low, span.value, span.high))
        parts.append(
            f'<line x1="{LEFT}" x2="{LEFT + MIDDLE}" y1="{row}" y2="{row}" class="grid"/>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{row}" y2="{row}" stroke="{colour}" '
            f'stroke-width="3"/><circle cx="{value:.1f}" cy="{row}" r="5" fill="{colour}"/>'
            f'<text x="{LEFT - 8}" y="{row + 4}" text-anchor="end">{html.escape(span.name)}</text>'
            f'<text x="{LEFT + MIDDLE + 8}" y="{row + 4}">{in_figures(span)}</text>'
        )
    view = f'viewBox="0 0 {LEFT + MIDDLE + RIGHT} {ROW * len(spans)}"'
    return f'<svg {view} role="img" class="chart">{"".join(parts)}</svg>'


def in_figures(number: Number | Span) -> str:
    """Return a value with its interval, if it has one: "3.21 [3.02, 3.44]"."""
    if number.low == number.high:
        return f"{number.value:.4g}"
    return f"{number.value:.4g} [{number.low:.3g}, {number.high:.3g}]"


def span_of(name: str, number: Number) -> Span:
    """Return a number as a row of a chart."""
    return Span(name, number.value, number.low, number.high)


def save_evaluation(evaluated: Evaluated, folder: str | Path) -> Path:
    """Write eval.json, pictures.npz and report.html into a folder, and return the page's path.

    Raises:
        DataError: they cannot be written.
    """
    where = Path(folder).expanduser()
    write_reference(where / ALBUM, pictures=evaluated.made.shown)
    write_report(evaluated, where / REPORT)
    evaluated.result.save(where / RESULT)
    return where / REPORT


def write_report(evaluated: Evaluated, path: str | Path) -> None:
    """Write the page of an evaluation.

    Raises:
        DataError: it cannot be written.
    """
    result = evaluated.result
    protocol = result.protocol
    drawing = protocol.drawing
    subject = protocol.made.name if drawing is None else Path(drawing.pipeline).name
    page = Page(f"Evaluation of {subject}", _lead(protocol))
    _show_numbers(page, evaluated)
    page.section("Pictures", f"Drawn, evenly spread over all {len(evaluated.made):,}.")
    page.pictures(_some(evaluated.made.shown), side=_side(evaluated.made.shown))
    if evaluated.real is not None:
        page.text(f"Real, evenly spread over {protocol.real.name}.")
        page.pictures(_some(evaluated.real.shown), side=_side(evaluated.real.shown))
    _show_copies(page, evaluated)
    page.section("How it was measured", "Every number above was measured with all of this.")
    page.code(protocol.command)
    page.table(["setting", "value"], list(settings_of(protocol).items()))
    page.save(path)


def settings_of(protocol: Protocol) -> dict[str, str]:
    """Return what numbers were measured with, by name, as pages show it."""
    bootstrap = protocol.bootstrap
    drawing: dict[str, Any] = {}
    if protocol.drawing is not None:
        drawing = to_dict(protocol.drawing)
        drawing |= drawing.pop("settings") | {"weights": _short(drawing["weights"])}
        del drawing["size"]  # which is that of the drawn pictures
        drawing["asking"] += f", {_short(drawing.pop('asked'))}"
    rows: dict[str, Any] = {
        "drawn pictures": _facts(protocol.made),
        "evaluation set": _facts(protocol.real),
        "features": f"{protocol.features}, weights {_short(protocol.network)}",
        "precision": protocol.precision,
        "device": protocol.device,
        "intervals": f"{bootstrap.level:.0%}, {bootstrap.resamples} resamples, "
        f"seed {bootstrap.seed}",
        **drawing,
        "limner": protocol.limner,
    }
    return {name.replace("_", " "): str(value) for name, value in rows.items()}


def _lead(protocol: Protocol) -> str:
    made, real = protocol.made, protocol.real
    count = "statistics of" if real.count is None else f"{real.count:,} pictures of"
    return f"{made.count:,} pictures beside {count} {real.name}."


def _show_numbers(page: Page, evaluated: Evaluated) -> None:
    result = evaluated.result
    level = f"{result.protocol.bootstrap.level:.0%} interval"
    page.section("Numbers", "What real pictures reach in the place of drawn ones stands beside.")
    rows = [
        [
            number.title,
            f"{number.value:.4g}",
            f"{number.low:.4g} to {number.high:.4g}",
            "-" if number.real is None else f"{number.real:.4g} ({number.real_count:,})",
            f"{number.better} is better" if number.better != "as real" else "as real is best",
            ", ".join(f"{of.replace('_', ' ')} {n}" for of, n in number.settings.items()),
        ]
        for number in result.numbers.values()
    ]
    page.table(["", "drawn", level, "real (how many)", "", "counted"], rows)
    for note in result.notes:
        page.text(f"Note: {note}.")
    for number in result.numbers.values():
        spans = [span_of("drawn", number)]
        if number.real is not None:
            spans.append(Span("real", number.real, number.real, number.real))
        page.intervals(spans, number.title)
    first = result.numbers["frechet_distance"]
    page.section(
        "Does the number of pictures suffice?",
        "The distance falls as more pictures are counted, and settles where they suffice.",
    )
    levels = {} if first.real is None else {f"real ({first.real_count})": first.real}
    page.plot({"drawn": result.course}, "drawn pictures", first.title, levels)


def _show_copies(page: Page, evaluated: Evaluated) -> None:
    copies = evaluated.copies
    if copies is None:
        return
    page.section(
        "Learned or copied?",
        "The drawn pictures that are nearest to a training picture, and that picture below each. "
        "The curves tell which share of pictures has a training picture within a distance: drawn "
        "ones that were copied rise left of the real ones that were never learned from.",
    )
    page.pictures(to_float(copies.drawn), side=72)
    captions = [f"differs by {distance:.3f}" for distance in copies.distances.tolist()]
    page.pictures(to_float(copies.nearest), captions, side=72)
    curves = {"drawn": copies.all_drawn, "held out": copies.all_real}
    page.plot(
        {name: _shares(distances) for name, distances in curves.items()},
        "distance to the nearest training picture",
        "share of pictures",
    )


def _shares(distances: Tensor) -> list[tuple[float, float]]:
    """Return (distance, share of pictures within it) of sorted distances; 100 points at most."""
    count = len(distances)
    places = sorted({round(i * (count - 1) / 99) for i in range(100)})
    return [(float(distances[place]), (place + 1) / count) for place in places]


def _side(shown: Tensor) -> int:
    """Return the width in pixels that pictures are shown at: clips are rows of frames."""
    return min(480, max(72, 72 * shown.shape[-1] // shown.shape[-2]))


def _some(levels: Tensor) -> Tensor:
    """Return some pictures of a set as float [n, 3, H, W] in [-1, 1]."""
    step = -(-len(levels) // SHOWN)
    return to_float(levels[::step])


def _facts(facts: SetFacts) -> str:
    parts = [facts.name]
    if facts.count is not None:
        parts.append(f"{facts.count:,} pictures")
    if facts.size is not None:
        parts.append(f"{facts.size[0]}x{facts.size[1]}")
    return ", ".join([*parts, f"fingerprint {_short(facts.fingerprint)}"])


def _short(fingerprint: str) -> str:
    """Return as much of a fingerprint as a reader compares; the result's file has all of it."""
    return fingerprint[:12]
