"""`limner compare` shows results side by side, and warns where they do not compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.evaluation.resampling import Bootstrap
from limner.evaluation.result import RESULT, Number, Protocol, Result, SetFacts


def write(folder: str, value: float, count: int = 100) -> None:
    """Write a result as `limner eval` would."""
    made, real = SetFacts(folder, count, (16, 16), folder), SetFacts("photos", 90, (16, 16), "r")
    protocol = Protocol("limner eval", "1", "packaged", "n", "cpu", made, real, Bootstrap())
    number = Number("FD (limner features)", value, value - 0.1, value + 0.1, "lower", "drawn")
    Result(protocol, {"frechet_distance": number}, ((count, value),)).save(Path(folder) / RESULT)


def test_results_that_compare(limner) -> None:
    write("one", 1.0)
    write("two", 2.0)
    write("three", 3.0)
    ran = limner("compare", "two", "one", "three/eval.json")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["two", "one", "three"]
    assert "2 [1.9, 2.1]" in lines[1] and "1 [0.9, 1.1] best" in lines[1]
    assert lines[-1] == "comparison.html"
    assert "three" in Path("comparison.html").read_text(encoding="utf-8")


def test_results_that_do_not(limner) -> None:
    write("one", 1.0)
    write("two", 2.0, count=50)
    ran = limner("compare", "one", "two", "--output", "page.html")
    assert ran.code == 0
    assert ran.err == (
        "limner: warning: two does not compare with one: other number of drawn pictures "
        "(50, not 100)\n"
    )
    assert "best" not in ran.out
    assert "Warning: two does not compare with one" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["one"], "results must be two or more"),
        (["one", "one"], "the same result is given twice"),
        (["one", "nowhere"], "nowhere holds no result (eval.json)"),
        (["one", "broken"], "broken/eval.json is no result"),
    ],
)
def test_what_cannot_be_compared(limner, words: list[str], expected: str) -> None:
    write("one", 1.0)
    write("broken", 1.0)
    (Path("broken") / RESULT).write_text("{")
    ran = limner("compare", *words)
    assert ran.code == 2
    assert expected in ran.err
    assert not Path("comparison.html").exists()
