"""Charts: axes, dots, and files of their own."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from limner.show.plot import line_chart, save_chart


def test_powers_are_straight_lines_on_logarithmic_axes() -> None:
    law = [(x, 3 * x**-0.4) for x in (1.0, 10.0, 100.0, 1e4)]
    chart = line_chart({"law": law, "zero": [(0.0, 1.0)]}, logarithmic=True)
    (path,) = re.findall(r'polyline points="([^"]*)"', chart)
    places = [tuple(map(float, pair.split(","))) for pair in path.split()]
    assert len(places) == 4
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(places)]
    assert max(slopes) - min(slopes) < 1e-2
    assert {"1", "10", "100", "1000", "10000"} <= set(re.findall(r">([^<]*)</text>", chart))


def test_dots_are_joined_by_nothing(tmp_path: Path) -> None:
    chart = line_chart({"runs": [(1, 2), (2, 3)], "fit": [(1, 2), (2, 3)]}, dots=["runs"])
    assert chart.count("<circle") == 2 and chart.count("<polyline") == 1
    save_chart(chart, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
