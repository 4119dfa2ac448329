"""Both sides in turn, in processes of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from limner.bench.circumstances import Circumstances
from limner.bench.comparison import agree, compare
from limner.bench.result import Result, Side, Spread, Variant
from limner.bench.settings import BenchError, Settings
from tests.bench.fakes import MEBIBYTES

ROOT = Path(__file__).parents[2]
SETTINGS = Settings("any", batch=2, threads=1)


def run(monkeypatch: pytest.MonkeyPatch, checkout: str | None) -> Result:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return compare("train", "tests.bench.fakes", SETTINGS, 3, checkout, "command", lambda _: None)


@pytest.mark.slow
def test_sides_are_measured_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, "code")
    assert result.official is not None and result.speed is not None
    assert len(result.ours.seconds) == len(result.official.seconds) == 3
    assert result.speed.least > 2
    assert result.official.own - result.ours.own > 0.9 * MEBIBYTES * 2**20
    assert result.agreement is not None and result.agreement.difference == 0
    alone = run(monkeypatch, None)
    assert alone.official is None and alone.speed is None and alone.memory is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkout", "said"),
    [("missing", "is missing"), ("wrong", "do not compute the same"), ("broken", "ZeroDivision")],
)
def test_what_goes_wrong_is_said(checkout: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match=said):
        run(monkeypatch, checkout)


def test_answers_agree_within_a_share_of_the_largest() -> None:
    found = agree([1.0, 200.1, -3.0], [1.05, 200.0, -3.0], tolerance=1e-3, share=1.0)
    assert (found.answers, found.agreeing) == (3, 3)
    assert found.difference == pytest.approx(0.1)
    agree([1.0, 2.0, 3.0], [1.0, 2.0, 9.0], tolerance=0, share=0.6)
    with pytest.raises(BenchError, match="2 of 3 answers agree, the largest difference is 6"):
        agree([1.0, 2.0, 3.0], [1.0, 2.0, 9.0], tolerance=0, share=0.7)
    with pytest.raises(BenchError, match="do not compute the same"):
        agree([1.0], [1.0, 1.0], tolerance=0, share=0.0)


def result() -> Result:
    circumstances = Circumstances("2026-01-01", "command", None, "0.1", "2.13", "3.11", "CPU", 2)
    ours = Side.of([{"seconds": s, "cpu_seconds": 1.0} for s in (1.0, 2.0, 4.0)], 100, 300)
    official = Side.of([{"seconds": s, "cpu_seconds": 1.5} for s in (3.0, 4.0, 6.0)], 100, 500)
    agreement = agree([1.0], [1.0], 0, 1)
    ceilings = {"gflop": 8.0, "bandwidth": 30.0, "seconds": 1.5, "rates": []}
    return Result("train", SETTINGS, circumstances, ours, official, agreement, ceilings)


def test_what_is_drawn_is_told_by_precision() -> None:
    rounded = Side.of([{"seconds": 0.5, "cpu_seconds": 0.4}], 100, 200, preview=0.25)
    variants = {"int8": Variant(rounded, {"seconds": 0.1})}
    found = replace(result(), tokens=512, variants=variants)
    assert found.share_of_ceiling(rounded) == 0.2
    assert found.share_of_ceiling(found.ours) == 0.75
    values = found.as_json()
    assert values["ours"]["tokens_a_second"] == 256 and values["ours"]["preview"] is None
    told = values["variants"]["int8"]
    assert told["tokens_a_second"] == 1024 and told["pictures_a_second"] == 4
    assert told["preview"] == 0.25 and told["ceilings"] == {"seconds": 0.1}
    assert "tokens_a_second" not in result().as_json()["ours"]


def test_ratios_are_of_pairs() -> None:
    found = result()
    assert found.speed == Spread(2.0, 1.5, 3.0)
    assert found.cpu_speed == Spread(1.5, 1.5, 1.5)
    assert found.memory == 0.5
    assert found.share_of_ceiling(found.ours) == 0.75


def test_the_file_holds_what_was_measured_and_what_follows(tmp_path: Path) -> None:
    result().write(tmp_path / "new" / "bench.json")
    values = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert values["ratios"]["speed"] == {"median": 2.0, "least": 1.5, "most": 3.0}
    assert values["official"]["seconds"] == [3.0, 4.0, 6.0]
    assert values["ours"]["own"] == 200 and values["ours"]["pictures_a_second"] == 1.0
    assert values["circumstances"]["commit"] is None
