"""A worker answers requests one by one, mistakes too."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from limner.bench import ceilings
from limner.bench.ceilings import measure
from limner.bench.work import Product, Work
from limner.bench.worker import serve


def ask(*requests: str, **changes: Any) -> list[dict[str, Any]]:
    given = {
        "subject": "tests.bench.fakes",
        "side": "ours",
        "checkout": "",
        "settings": {"model": "any", "batch": 2, "threads": 1},
        **changes,
    }
    said: list[str] = []
    serve(json.dumps(given), io.StringIO("\n".join(requests)), said.append)
    return [json.loads(line) for line in said]


def test_answers_steps_and_memory() -> None:
    answer, bounds, before, step, after = ask("answer", "bounds", "imports", "step", "memory")
    assert answer == {"found": [1.0, 2.0]}
    assert bounds == {"found": [1e-3, 1.0]}
    assert set(step["found"]) == {"seconds", "cpu_seconds"}
    assert all(0 <= value < 10 for value in step["found"].values())
    assert 2**24 < before["found"] <= after["found"]


def test_a_side_without_pictures_says_so() -> None:
    assert ask("tokens", "precisions", "preview") == [
        {"found": None},
        {"found": []},
        {"found": None},
    ]


def test_reading_and_computing_go_on_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_NUMBERS", 2**20)
    work = Work(read=2**31)
    work.add(Product(8, 4, 6))
    found = measure(work)
    assert found.reading is not None and found.reading > 0.1
    assert found.seconds == pytest.approx(work.read / found.reading / 1e9)
    assert measure(Work({Product(8, 4, 6): 1})).reading is None


def test_ceilings_are_measured_for_every_operation() -> None:
    (found,) = ask("ceilings")
    ceilings = found["found"]
    assert [rate["times"] for rate in ceilings["rates"]].count(2) == 2
    assert len(ceilings["rates"]) == 3
    assert all(rate["gflops"] > 0 and 0 < rate["share"] < 1 for rate in ceilings["rates"])
    assert abs(sum(rate["share"] for rate in ceilings["rates"]) - 1) < 0.1
    flops = 2 * 2 * 8 * 4 * 6 * (1 + 3) + 2 * 2 * 5 * 7 * 9 * 27
    assert ceilings["gflop"] == flops / 1e9
    assert ceilings["seconds"] > 0 and ceilings["bandwidth"] > 0.1


def test_mistakes_are_answers_too() -> None:
    missing, again = ask("answer", "memory", side="official", checkout="missing")
    assert missing == {"error": "the official code is missing"}
    assert again["found"] > 0
    (broken,) = ask("step", side="official", checkout="broken")
    assert broken == {"error": "ZeroDivisionError: in the official code"}
    (unknown,) = ask("memory", settings={"model": "any", "batch": 0})
    assert "batch=0 is not accepted" in unknown["error"]
