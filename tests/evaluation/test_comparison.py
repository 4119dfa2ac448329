"""Results side by side, and warnings where they do not compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.core.errors import ConfigError, DataError
from limner.evaluation.comparison import (
    Entry,
    best,
    differences,
    read_entries,
    table,
    warnings_of,
    write_comparison,
)
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.result import Number, Protocol, Result, SetFacts
from limner.metrics.references import write_reference

PROTOCOL = Protocol(
    command="limner eval a",
    limner="1",
    features="packaged",
    network="n" * 32,
    device="cpu",
    made=SetFacts("a", 100, (16, 16), "m"),
    real=SetFacts("photos", 90, (16, 16), "r"),
    bootstrap=Bootstrap(),
)


def number(value: float, low: float, high: float, better: str = "lower", **settings) -> Number:
    return Number("FD (x)", value, low, high, better, "drawn pictures", settings)  # type: ignore[arg-type]


def result(first: Number, protocol: Protocol = PROTOCOL, **others: Number) -> Result:
    return Result(protocol, {"frechet_distance": first, **others}, ((50, 2.0), (100, first.value)))


def test_what_must_be_the_same_and_what_may_differ() -> None:
    assert differences(PROTOCOL, PROTOCOL) == []
    free = replace(PROTOCOL, command="other", device="cuda", made=SetFacts("b", 100, (16, 16), "o"))
    moved = replace(PROTOCOL, real=replace(PROTOCOL.real, name="moved/photos"))
    assert differences(PROTOCOL, free) == differences(PROTOCOL, moved) == []
    for change, expected in (
        ({"network": "o" * 32}, "other features (packaged oooooooo, not packaged nnnnnnnn)"),
        ({"real": SetFacts("photos", 90, (16, 16), "s")}, "other evaluation set (photos s, not"),
        (
            {"made": SetFacts("a", 50, (16, 16), "m")},
            "other number of drawn pictures (50, not 100)",
        ),
        ({"made": SetFacts("a", 100, (8, 16), "m")}, "other resolution (8x16, not 16x16)"),
    ):
        found = differences(PROTOCOL, replace(PROTOCOL, **change))
        assert len(found) == 1 and found[0].startswith(expected)


def test_the_best_is_marked_where_no_interval_reaches_it() -> None:
    low, middle, high = number(1, 0.9, 1.1), number(2, 1.2, 2.8), number(3, 2.5, 3.5)
    assert best([middle, low, high]) == 1
    assert best([middle, high]) is None
    assert best([low, None]) is None
    up = [replace(each, better="higher") for each in (low, high)]
    assert best(up) == 1
    assert best([replace(each, better="as real") for each in (low, high)]) is None


def test_results_that_do_not_compare_have_no_best() -> None:
    first, second = number(1, 0.9, 1.1), number(3, 2.5, 3.5)
    entries = [Entry("a", result(first), None), Entry("b", result(second), None)]
    head, rows = table(entries)
    assert head == ["", "a", "b"]
    assert rows == [["FD (x)", "1 [0.9, 1.1] best", "3 [2.5, 3.5]"]]
    other = replace(PROTOCOL, made=SetFacts("a", 50, (16, 16), "m"))
    apart = [entries[0], Entry("b", result(second, other), None)]
    assert "best" not in str(table(apart))
    assert warnings_of(apart) == [
        "b does not compare with a: other number of drawn pictures (50, not 100)"
    ]
    settings = [entries[0], Entry("b", result(number(3, 2.5, 3.5, features=9)), None)]
    assert "other settings of FD (x)" in warnings_of(settings)[0]


def test_a_page_shows_them_side_by_side(tmp_path: Path) -> None:
    pictures = torch.zeros(40, 3, 16, 16, dtype=torch.uint8)
    for name, value in (("a", 1.0), ("b", 3.0)):
        folder = tmp_path / "runs" / name / "eval"
        made = result(number(value, value - 0.1, value + 0.1), only=number(value, 0, 9))
        replace(made, protocol=replace(PROTOCOL, command=f"limner eval {name}")).save(
            folder / "eval.json"
        )
        write_reference(folder / "pictures.npz", pictures=pictures)
    entries = read_entries([tmp_path / "runs" / "a", tmp_path / "runs" / "b" / "eval"])
    assert [entry.name for entry in entries] == ["a/eval", "b/eval"]
    write_comparison(entries, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ("limner eval a\nlimner eval b", "1 [0.9, 1.1] best", "fingerprint r", "a/eval"):
        assert part in text
    assert "Warning" not in text
    assert text.count("<img") == 20 and text.count('class="chart"') == 3

    with pytest.raises(ConfigError, match="two or more"):
        read_entries([tmp_path / "runs" / "a"])
    with pytest.raises(DataError, match="given twice"):
        read_entries([tmp_path / "runs" / "a", tmp_path / "runs" / "a" / "eval"])
