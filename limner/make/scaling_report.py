"""What `limner scaling` has to show: scaling.json, scaling.svg and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limner.core.config import to_dict
from limner.core.files import replaced
from limner.make.scaling import MEASURES, Family, Fits, Point, frontier
from limner.metrics.power_law import PowerLaw
from limner.show.plot import line_chart, save_chart
from limner.show.report import Report

LABELS = {
    "loss": "held-out loss",
    "token_error": "share of wrong tokens",
    "bit_error": "share of wrong bits",
    "last_scale_loss": "held-out loss, last scale",
    "last_scale_token_error": "share of wrong tokens, last scale",
}
assert tuple(LABELS) == MEASURES


def write_scaling(family: Family, points: Sequence[Point], fits: Fits, output: Path) -> None:
    """Write numbers, plot and page.

    Args:
        points: from small to large.
    """
    content: dict[str, Any] = {
        "recipe": family.recipe,
        "fields": family.fields,
        "members": [to_dict(point) for point in points],
        "fits": to_dict(fits),
    }
    with replaced(output / "scaling.json") as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=1) + "\n", encoding="utf-8")
    save_chart(_by_parameters(points, fits, "loss"), output / "scaling.svg")
    _report(family, points, fits).save(output / "report.html")


def law_in_words(law: PowerLaw, measure: str, of: str) -> str:
    """Return a law as a line: L = 12.3 N^-0.20, and how well it fits."""
    symbol = "L" if measure.endswith("loss") else "Err"
    return (
        f"{symbol} = {law.factor:.4g} {of}^{law.exponent:.4f} (± {law.error:.2g}), "
        f"correlation {law.correlation:.4f}, {law.points} points"
    )


def lines_of(fits: Fits) -> list[str]:
    """Return every law in words."""
    return [
        f"{LABELS[measure]}: {law_in_words(law, measure, of)}"
        for of, laws in (("N", fits.parameters), ("C", fits.compute))
        for measure, law in laws.items()
    ]


def _report(family: Family, points: Sequence[Point], fits: Fits) -> Report:
    report = Report(
        "Scaling",
        f"{len(points)} runs of {family.recipe}, from small to large, by `limner scaling`.",
    )
    report.section("Runs")
    measures = [name for name in MEASURES if all(name in point.measures for point in points)]
    report.table(
        ["run", "parameters", "steps", "training FLOP", *(LABELS[name] for name in measures)],
        [
            [point.name, f"{point.parameters:,}", f"{point.steps:,}", f"{point.flops:.3g}"]
            + [f"{point.measures[name]:.4f}" for name in measures]
            for point in points
        ],
    )
    report.section(
        "Against parameters",
        "N parameters in all. Both axes are logarithmic: a power law is a line.",
    )
    for name in measures:
        report.chart(_by_parameters(points, fits, name))
        _say(report, fits.parameters, name, "N")
    report.section(
        "Against training compute",
        "C floating-point operations of losses and their gradients, those of the tokenizer and "
        "of the optimizer not counted. Every line is a run; the law is fitted to the frontier, "
        "what no run reaches with less.",
    )
    for name in (name for name in MEASURES if any(name in point.course for point in points)):
        report.chart(_by_compute(points, fits, name))
        _say(report, fits.compute, name, "C")
    return report


def _say(report: Report, laws: Mapping[str, PowerLaw], name: str, of: str) -> None:
    known = name in laws
    report.text(law_in_words(laws[name], name, of) if known else "Too few points for a power law.")


def _by_parameters(points: Sequence[Point], fits: Fits, name: str) -> str:
    measured = [(float(point.parameters), point.measures[name]) for point in points]
    lines = {"measured": measured} | _fit(fits.parameters, name, measured)
    return line_chart(lines, "parameters", LABELS[name], dots=["measured"], logarithmic=True)


def _by_compute(points: Sequence[Point], fits: Fits, name: str) -> str:
    lines = {point.name: [(x, y) for x, y in point.course.get(name, ())] for point in points}
    lines |= _fit(fits.compute, name, frontier(points, name))
    return line_chart(lines, "training FLOP", LABELS[name], logarithmic=True)


def _fit(
    laws: Mapping[str, PowerLaw], name: str, measured: Sequence[tuple[float, float]]
) -> dict[str, list[tuple[float, float]]]:
    if name not in laws:
        return {}
    ends = measured[0][0], measured[-1][0]
    return {f"exponent {laws[name].exponent:.3f}:": [(x, laws[name].at(x)) for x in ends]}


def _plain(value: Any) -> Any:
    """Return a value with null in place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
