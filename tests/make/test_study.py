"""A study compares generators on equal terms, goes on after a kill, and repeats nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import limner.make.studying as studying
from limner.cli import main
from limner.core.config import from_dict
from limner.core.errors import ConfigError
from limner.make.study import CommonBudget, Study, count_parameters, list_studies, load_study
from limner.make.study_report import drawing_table, training_table
from limner.make.studying import Measured

SMALL: dict[str, Any] = {
    "title": "Small",
    "budget": {"steps": 4},
    "parameters": [1_000, 200_000],
    "samples": 8,
    "batch": 8,
    "bootstrap": {"resamples": 20},
    "classifier_steps": 1,
    "timed": [1, 2],
    "fields": {
        "data": {
            "size": 16,
            "classes": ["Activities", "Food & Drink"],
            "captions": "class",
            "views": {"kind": "centre"},
        },
        "budget": {"batch": 8},
        "evaluations": 2,
        "device": "cpu",
    },
    "entries": [
        {
            "name": "raster",
            "order": "raster",
            "head": "categorical",
            "recipe": "llamagen/tiny",
            "fields": {
                "tokenizer": {"config": {"codebook_size": 16}},
                "model": {"config": {"width": 16, "depth": 1, "heads": 2, "multiple_of": 8}},
            },
        },
        {
            "name": "random",
            "order": "random",
            "head": "diffusion",
            "recipe": "mar/tiny",
            "fields": {
                "model": {
                    "config": {
                        "encoder": {"width": 16, "depth": 1, "heads": 2},
                        "decoder": {"width": 16, "depth": 1, "heads": 2},
                        "head": {"width": 16, "depth": 1, "steps": "ddim6"},
                        "steps": 4,
                    }
                }
            },
        },
        {
            "name": "annealed",
            "order": "random",
            "head": "diffusion, fewer and fewer steps",
            "trained_as": "random",
            "draw": {"annealing": "6-2"},
        },
    ],
}
CAPTIONED = {
    "name": "captioned",
    "order": "windows",
    "head": "categoricals",
    "recipe": "token-shuffle/tiny",
    "fields": {
        "tokenizer": {"config": {"codebook_size": 16}},
        "model": {"config": {"width": 16, "depth": 1, "heads": 2, "key_heads": 2, "hidden": 16}},
    },
}
KILLS = """
import os, signal
from limner.training.checkpoint import Checkpoints

write = Checkpoints.write

def write_and_die(self, step, state):
    write(self, step, state)
    if step == 2 and "random" in str(self.folder):
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoints.write = write_and_die
"""


def written(folder: Path, **changes: Any) -> Path:
    """Write the small study with some changes."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}))
    return file


def test_a_killed_study_goes_on_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = written(tmp_path), tmp_path / "study"
    command = ["study", str(file), "--output", str(output)]
    (tmp_path / "kills.py").write_text(KILLS)
    killed = subprocess.run(
        [sys.executable, "-m", "limner", *command, "--plugin", str(tmp_path / "kills.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (
        json.loads((output / "study.json").read_text())["entries"][0]["entry"]["name"] == "raster"
    )
    first = (output / "raster" / "measured.json").read_bytes()
    assert not (output / "random" / "measured.json").exists()

    train, trained = studying.train, []

    def noted(recipe: Any, resume: bool) -> Any:
        trained.append(Path(recipe.output).parent.name)
        return train(recipe, resume=resume)

    monkeypatch.setattr(studying, "train", noted)
    assert main(command) == 0
    said = capsys.readouterr()
    assert "1/3 raster: done" in said.err and "going on from step 2" in said.err
    assert trained == ["random"], "the last entry draws with the network of another"
    assert (output / "raster" / "measured.json").read_bytes() == first
    shutil.rmtree(output / "raster" / "run" / "checkpoints")
    (output / "raster" / "measured.json").unlink()
    assert main(command) == 0 and len(trained) == 1, "a finished training needs no state"
    _check_results(output)


def _check_results(output: Path) -> None:
    kept = json.loads((output / "study.json").read_text())
    assert {"processor", "cores", "commit", "date", "command"} <= kept["circumstances"].keys()
    done = [from_dict(Measured, values) for values in kept["entries"]]
    assert [measured.entry.name for measured in done] == ["raster", "random", "annealed"]
    raster, random, annealed = done
    assert [measured.steps for measured in done] == [4, 4, 4]
    assert all(1_000 <= measured.parameters <= 200_000 for measured in done)
    assert annealed.parameters == random.parameters
    assert (raster.drawing.steps, raster.drawing.passes, raster.drawing.head_passes) == (16, 16, 0)
    assert (random.drawing.steps, random.drawing.passes) == (4, 4)
    assert random.drawing.head_passes == 4 * 6
    assert annealed.drawing.head_passes < random.drawing.head_passes
    assert annealed.drawing.passes == 4
    for measured in done:
        assert measured.drawing.seconds.keys() == {"1", "2"}
        assert all(seconds > 0 for seconds in measured.drawing.seconds.values())
        distance = measured.numbers["frechet_distance"]
        assert distance["low"] <= distance["value"] <= distance["high"]
        assert 0 <= measured.numbers["class_agreement"]["value"] <= 1
        assert measured.flops > 0
        with Image.open(output / "pictures" / f"{measured.entry.name}.png") as strip:
            assert strip.width > strip.height
    shown = [cells[0] for cells in drawing_table(done)[1]]
    assert (
        shown == [cells[0] for cells in training_table(done)[1]] == ["raster", "random", "annealed"]
    )
    page = (output / "report.html").read_text()
    assert "bits a token" in page and "diffusion, fewer and fewer steps" in page


def test_some_entries_are_told_by_captions_what_others_are_by_class(tmp_path: Path) -> None:
    file = written(tmp_path, entries=[*SMALL["entries"], CAPTIONED], budget={"steps": 1})
    output = tmp_path / "study"
    assert main(["study", str(file), "--output", str(output), "--entries", "captioned,raster"]) == 0
    entries = json.loads((output / "study.json").read_text())["entries"]
    assert [values["entry"]["name"] for values in entries] == ["raster", "captioned"]
    asked = {}
    for name in ("raster", "captioned"):
        shard = output / name / "eval" / "samples" / "shard-00000.npz"
        asked[name] = np.load(shard)["arr_1"].tolist()
    assert asked["raster"] == asked["captioned"] and set(asked["raster"]) == {0, 1}
    assert "class_agreement" in entries[1]["numbers"]


def test_a_budget_of_operations_gives_all_as_many(tmp_path: Path) -> None:
    first, second = SMALL["entries"][0], SMALL["entries"][0] | {"name": "deeper"}
    second = second | {"fields": json.loads(json.dumps(first["fields"]))}
    second["fields"]["model"]["config"]["depth"] = 3
    file = written(tmp_path, entries=[first, second], budget={"flops": 2e8})
    output = tmp_path / "study"
    assert main(["study", str(file), "--output", str(output)]) == 0
    one, other = json.loads((output / "study.json").read_text())["entries"]
    assert one["steps"] > other["steps"] >= 1
    for values in (one, other):
        step = values["flops"] / values["steps"]
        assert abs(values["flops"] - 2e8) <= step / 2 + 1


def test_a_study_that_is_stopped_by_hand_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = SimpleNamespace(interrupted=True)
    monkeypatch.setattr(studying, "train", lambda recipe, resume: stopped)
    assert main(["study", str(written(tmp_path)), "--output", str(tmp_path / "study")]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "study" / "study.json").exists()


def test_an_entry_that_fails_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = studying.train

    def fails(recipe: Any, resume: bool) -> Any:
        if "random" in recipe.output:
            raise RuntimeError("out of luck")
        return train(recipe, resume=resume)

    monkeypatch.setattr(studying, "train", fails)
    file = written(tmp_path, entries=SMALL["entries"][1::-1], budget={"steps": 1})
    assert main(["study", str(file), "--output", str(tmp_path / "study")]) != 0
    said = capsys.readouterr().err
    assert "random: RuntimeError: out of luck" in said and "1 entries failed: random" in said
    entries = json.loads((tmp_path / "study" / "study.json").read_text())["entries"]
    assert [values["entry"]["name"] for values in entries] == ["raster"]


@pytest.mark.parametrize(
    ("changes", "words", "expected"),
    [
        ({"parameters": [10, 20]}, [], "parameters are not accepted: the study says from 10 to 20"),
        ({}, ["--entries", "rastr"], "did you mean 'raster'?"),
        ({"budget": {"steps": 4, "seconds": 4}}, [], "one of seconds, steps and flops"),
        ({}, ["--sample", "8"], "did you mean 'samples'?"),
        ({"samples": 2}, [], "samples must be 6 or more"),
        ({"entries": [SMALL["entries"][0]] * 2}, [], "of other names"),
        ({"entries": [SMALL["entries"][2]]}, [], "unknown entry 'random'"),
        (
            {"entries": [SMALL["entries"][0] | {"recipe": "vqgan/tiny", "fields": {}}]},
            [],
            "must train a generator",
        ),
    ],
)
def test_studies_that_cannot_be_followed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    words: list[str],
    expected: str,
) -> None:
    file = written(tmp_path, **changes)
    assert main(["study", str(file), "--output", str(tmp_path / "study"), *words]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_folder_of_another_study_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, output = load_study(str(written(tmp_path))), tmp_path / "study"
    studying.check_folders(study, study.entries[:1], output)
    studying.check_folders(replace(study, title="Other"), study.entries[:1], output)
    changed = replace(study, budget=CommonBudget(steps=5))
    with pytest.raises(ConfigError, match="something else was asked for"):
        studying.check_folders(changed, study.entries[:1], output)


@pytest.mark.parametrize("name", list_studies())
def test_packaged_studies_are_of_equal_size_and_wide(name: str) -> None:
    study = load_study(name)
    counts = count_parameters(study, study.entries)
    assert len({study.trained(entry).name for entry in study.entries}) >= 8
    assert all(1_000_000 <= count <= 2_000_000 for count in counts.values())
    assert max(counts.values()) < 1.07 * min(counts.values())


def test_no_study_of_that_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'next-scale'"):
        load_study("next-scales")
    assert isinstance(load_study("next-scale", {"budget.seconds": 3}).budget, CommonBudget)
    assert load_study("next-scale", {"budget.seconds": 3}).budget == CommonBudget(seconds=3)
    assert isinstance(load_study("orders-and-heads"), Study)
