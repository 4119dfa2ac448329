"""A family of runs is followed, goes on after a stop, and shows its laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limner.cli import main
from limner.make.scaling import Point, fit

SMALL = [
    *("--data.size", 8, "--data.classes", "[Activities, Flags]", "--data.views.count", 1),
    *("--tokenizer.config", "{patch: 2, codebook_size: 16, width: 4, scales: [1, 2, 4]}"),
    *("--budget.steps", 4, "--budget.batch", 8, "--evaluations", 2, "--device", "cpu"),
    *("--model.config.latent", 4),
]


def follow(*words: object) -> int:
    """Call `limner scaling` on the small VAR."""
    return main(["scaling", "var/tiny", *map(str, [*SMALL, *words])])


def point(parameters: int, **measures: float) -> Point:
    """A run that reached these."""
    course = {"loss": [[parameters * step, 4.0 * (parameters * step) ** -0.1] for step in (1, 2)]}
    return Point(str(parameters), parameters, 2, 2.0 * parameters, measures, course)


def test_laws_of_known_runs() -> None:
    points = [
        point(n, loss=9.0 * n**-0.2, token_error=0.5) for n in (10_000, 50_000, 100_000, 900_000)
    ]
    fits = fit(points)
    assert fits.parameters["loss"].exponent == pytest.approx(-0.2)
    assert fits.parameters["loss"].correlation == pytest.approx(-1)
    assert fits.parameters["token_error"].exponent == pytest.approx(0, abs=1e-12)
    assert fits.compute["loss"].exponent == pytest.approx(-0.1)
    assert fits.compute["loss"].points == 7, "two runs meet at 100,000"


def test_a_family_is_followed_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "family"
    sizes = ("--sizes", "32x1", "64x1", "64x2", "--output", output)
    import limner.make.scaling as scaling

    train, followed = scaling.train, []

    def stops_at_the_second(recipe: Any, resume: bool) -> Any:
        if followed:
            raise KeyboardInterrupt
        followed.append(recipe.output)
        return train(recipe, resume=resume)

    monkeypatch.setattr(scaling, "train", stops_at_the_second)
    assert follow(*sizes) == 130
    assert not (output / "scaling.json").exists()

    def goes_on(recipe: Any, resume: bool) -> Any:
        followed.append(recipe.output)
        return train(recipe, resume=resume)

    monkeypatch.setattr(scaling, "train", goes_on)
    assert follow(*sizes) == 0
    assert [Path(folder).name for folder in followed] == ["32x1", "64x1", "64x2"]
    shown = json.loads((output / "scaling.json").read_text())
    members = shown["members"]
    assert [member["name"] for member in members] == ["32x1", "64x1", "64x2"]
    counts = [member["parameters"] for member in members]
    assert counts == sorted(counts)
    assert all(m["flops"] == pytest.approx(m["course"]["loss"][-1][0]) for m in members)
    wanted = {"loss", "token_error", "last_scale_loss", "last_scale_token_error"}
    assert all(m["measures"].keys() == wanted for m in members)
    assert all(0 < m["measures"]["token_error"] <= 1 for m in members)
    assert shown["fits"]["parameters"].keys() == wanted
    assert "polyline" in (output / "scaling.svg").read_text()
    page = (output / "report.html").read_text()
    assert "64x2" in page and "N^" in page
    assert "held-out loss: L = " in capsys.readouterr().out

    assert follow("--sizes", "32x1", "64x1", "96x1", "--output", output) == 2
    assert "something else was asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--sizes", "32x1", "64x1"], "3 or more that differ"),
        (["--sizes", "32x1", "32x1", "64x1"], "3 or more that differ"),
        (["--sizes", "32", "64x1", "96x1"], "write WIDTHxDEPTH"),
        (["--sizes", "33x1", "64x1", "96x1"], "a multiple of the recipe's 32 a head"),
        (["--member", "{seed: 1}", "--member", "{seed: 2}", "--member", "{seed: 3}"], "numbers of"),
        (["--member", "seed"], "write fields"),
        (["--sizes", "32x1", "64x1", "96x1", "--model.config.deep", "1"], "did you mean 'depth'?"),
    ],
)
def test_families_that_cannot_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert follow(*words, "--output", tmp_path / "family") == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "family").exists()


def test_recipes_of_which_there_is_no_family(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--sizes", "32x1", "64x1", "96x1"]
    assert main(["scaling", "var/vqvae-tiny", *sizes]) == 2
    assert "trains a tokenizer" in capsys.readouterr().err
    assert main(["scaling", "var/tiny", *sizes, "--model.weights", "there"]) == 2
    assert "model.weights='there' is not accepted" in capsys.readouterr().err
