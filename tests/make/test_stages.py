"""The command itself: from a folder to a report, with stops on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from limner.cli import main
from limner.data import load_packaged
from limner.make import report
from limner.pipeline import Pipeline
from limner.show.images import to_images
from limner.training.generator_task import GeneratorTask

SMALL = [
    *("--size", "16", "--device", "cpu", "--tokenizer.perceptual", "null"),
    *("--tokenizer.tokenizer.config.convolution", "{channels: 32, multipliers: [1, 1, 1]}"),
    *("--tokenizer.tokenizer.config.quantizer.codebook_size", "32"),
    *("--tokenizer.objective.discriminator", "{channels: 8, depth: 1}"),
    *("--tokenizer.budget", "{steps: 4, batch: 8}", "--generator.budget", "{steps: 4, batch: 8}"),
    *("--tokenizer.evaluations", "2", "--generator.evaluations", "2"),
    *("--generator.model.config", "{width: 16, depth: 1, heads: 2, multiple_of: 8}"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real pictures in two classes."""
    pictures = load_packaged("twemoji", 24, ["Activities", "Food & Drink"])
    root = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(to_images(pictures.to_float(slice(0, 200, 4)))):
        label = pictures.classes[int(pictures.labels[4 * number])]
        (root / label).mkdir(exist_ok=True)
        image.save(root / label / f"{number}.png")
    return root


def test_one_command_goes_all_the_way_and_goes_on(
    folder: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    output = tmp_path / "made"
    command = ["make", str(folder), "--output", str(output), *SMALL]

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "CLASSIFIER_SECONDS", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(GeneratorTask, "pieces", killed)
        assert main(command) != 0
    assert not (output / "report.html").exists()
    weights = (output / "tokenizer" / "tokenizer" / "model.safetensors").read_bytes()
    assert main(command) == 0
    said = capsys.readouterr()
    assert "going on from step 4" in said.err, "the tokenizer was finished before"
    assert (output / "tokenizer" / "tokenizer" / "model.safetensors").read_bytes() == weights
    page = (output / "report.html").read_text(encoding="utf-8")
    for words in ("What was chosen, and why", "codes used", "bits per token", "Learned or copied?"):
        assert words in page
    assert Pipeline.from_pretrained(output)(classes=["Food & Drink"], seed=0).images
    assert main(["make", str(tmp_path), "--output", str(output)]) != 0
    assert "not accepted: output must be another" in capsys.readouterr().err


def test_a_plan_is_recipes_that_can_be_trained(folder: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "plan"
    assert main(["make", str(folder), "--output", str(output), "--plan", *SMALL]) == 0
    assert [path.name for path in output.iterdir()] == ["plan.yaml"]
    assert "16 x 16 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "-1"], "minutes=-1.0 is not accepted"),
        (["--size", "18"], "size=18 is not accepted"),
        (["--depth", "8"], "--depth is not known: begin a field with tokenizer. or generator."),
        (["--tokenizer.data.views.kind", "tenn"], "did you mean 'ten'"),
    ],
)
def test_mistakes_are_named_before_work(
    folder: Path, tmp_path: Path, capsys, options: list[str], message: str
) -> None:
    output = tmp_path / "made"
    assert main(["make", str(folder), "--output", str(output), *options]) != 0
    assert message in capsys.readouterr().err
    assert not (output / "tokenizer").exists()


def test_the_real_command_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "limner", "make", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("limner: error: picture source")
    assert len(done.stderr.splitlines()) == 1
