"""Running cases: what is found, what fails, and how it is told."""

import json

import pytest
import torch

from limner.core.errors import LimnerError
from limner.verify import registry, verify
from limner.verify.runner import find_cases


def _run(*paths):
    written = []
    report = verify(paths, write=written.append)
    return report, "\n".join(written)


def test_a_case_that_is_reproduced(make_case, doubling, doubled, tmp_path):
    make_case(doubled)
    report, text = _run(tmp_path)
    assert report.ok and report.exit_code == 0
    assert "toy/double" in text and "all ok" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  y")]
    assert line.split() == ["y", "[4]", "exact", "ok"]


def test_a_perturbed_output_fails(make_case, doubling, doubled, tmp_path):
    doubled["y"][2] += 0.01
    make_case(doubled)
    report, text = _run(tmp_path)
    assert report.exit_code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("  y")]
    assert line.split() == ["y", "[4]", "0.0017", "FAIL"]
    assert "1 FAIL in toy/double" in text


def test_an_unread_input_and_an_unchecked_output_fail(make_case, doubling, doubled, tmp_path):
    doubled |= {"seed": torch.zeros(1), "z": torch.zeros(1)}
    make_case(doubled, inputs=["x", "seed"])
    report, text = _run(tmp_path)
    assert report.exit_code == 1
    assert "never read" in text and "was not checked" in text
    assert {line.name for line in report.cases[0].lines if not line.outcome.ok} == {"seed", "z"}


def test_a_replay_that_breaks_is_one_failure(make_case, doubled, tmp_path, monkeypatch):
    def broken(case):
        case.check("y", 2 * case.input("x"))
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(registry._REPLAYS, "toy/*", broken)
    make_case(doubled, folder="a")
    make_case(doubled, folder="b")
    report, text = _run(tmp_path)
    assert len(report.cases) == 2 and report.exit_code == 1
    assert "ZeroDivisionError: oh (test_runner.py:" in text and "Traceback" not in text


def test_the_longest_pattern_wins(make_case, doubling, doubled, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._REPLAYS, "toy/*", lambda case: None)
    make_case(doubled)
    assert _run(tmp_path)[0].ok


def test_nothing_checked_is_no_success(make_case, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._REPLAYS, "toy/*", lambda case: case.input("x"))
    make_case({"x": torch.zeros(1)})
    report, text = _run(tmp_path)
    assert report.exit_code == 1 and "nothing was checked" in text


def test_an_unknown_system_fails(make_case, doubled, tmp_path):
    make_case(doubled, system="lamagen")
    report, text = _run(tmp_path)
    assert report.exit_code == 1
    assert "no replay for 'lamagen/double'; known: " in text and "llamagen/gpt-*" in text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", "config.json is not valid JSON"),
        ("config.json", b"[]", "must hold a mapping"),
        ("config.json", b'{"system": "toy", "case": "double"}', "'hyper' is missing"),
        ("config.json", b"\xff\xfe", "config.json is not valid JSON"),
        ("config.json", None, "config.json cannot be read"),
        ("io.safetensors", b"\x10", "io.safetensors is truncated or broken"),
        ("io.safetensors", b"", "io.safetensors is truncated or broken"),
        ("io.safetensors", None, "io.safetensors cannot be read"),
    ],
)
def test_broken_files_fail_in_one_line(make_case, doubling, doubled, file, content, message):
    folder = make_case(doubled)
    good = make_case(doubled, folder="good")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    report, text = _run(folder, good)
    assert report.exit_code == 1 and [case.ok for case in report.cases] == [False, True]
    (line,) = [line for line in text.splitlines() if message in line]
    assert "FAIL" in line


@pytest.mark.parametrize(
    "field", [{"arguments": {"y": 3}}, {"tolerance": {"y": "loose"}}, {"inputs": "x"}, {"io": []}]
)
def test_fields_of_the_wrong_kind_fail(make_case, doubling, doubled, field, tmp_path):
    make_case(doubled, **field)
    report, text = _run(tmp_path)
    assert report.exit_code == 1 and f"{next(iter(field))}" in text and "FAIL" in text


def test_truncated_tensors_fail(make_case, doubling, doubled, tmp_path):
    file = make_case(doubled) / "io.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    assert "truncated" in _run(tmp_path)[1]


def test_cases_are_found_once_and_saved_models_are_none(make_case, doubled, tmp_path):
    inner = make_case(doubled, folder="a/b")
    outer = make_case(doubled, folder="a")
    model = tmp_path / "a" / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"limner": 1}))
    assert find_cases([tmp_path, inner]) == [outer, inner]
    assert find_cases([inner / "config.json"]) == [inner]


def test_no_such_path_and_no_cases(tmp_path):
    with pytest.raises(LimnerError, match="no such file or folder"):
        verify([tmp_path / "nowhere"])
    with pytest.raises(LimnerError, match="no cases below"):
        verify([tmp_path])
