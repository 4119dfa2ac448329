"""A subject is learned from a few pictures; the pipeline that comes out still draws the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from limner.cli import main
from limner.core.request import Request
from limner.data import load_packaged
from limner.models.arbooth import ARBooth
from limner.models.infinity import Infinity, InfinityConfig
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline
from limner.show.images import to_images
from limner.tokenizers.patch_bits import PatchBits, PatchBitsConfig
from limner.tokenizers.patches import PatchMultiScale, PatchMultiScaleConfig
from limner.training import load_recipe, train

SIZE = 16
SCALES = (1, 2, 4)
QUICK = ("--budget.steps", 4, "--optimizer.lr", 0.01, "--evaluations", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four pictures."""
    folder = tmp_path_factory.mktemp("subject") / "rex"
    folder.mkdir()
    shown = load_packaged(size=SIZE).to_float()[:4]
    for number, image in enumerate(to_images(shown)):
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def by_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small VAR of three classes, untrained."""
    pixels = load_packaged(size=SIZE).to_float()[:64]
    shape = {"patch": 4, "width": 8, "codebook_size": 16, "scales": SCALES}
    tokenizer = PatchMultiScale(PatchMultiScaleConfig(**shape))
    tokenizer.fit(pixels, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"codebook_size": 16, "latent": 8}
    config = VARConfig(width=32, depth=2, heads=2, classes=3, scales=SCALES, gate_gain=1.0, **sizes)
    folder = tmp_path_factory.mktemp("by-class") / "pipeline"
    generator = VAR(config)
    torch.nn.init.normal_(generator.output.weight, std=0.3)
    Pipeline(tokenizer, generator, ("a", "b", "c"), (SIZE, SIZE)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def by_prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Infinity asked by captions, untrained."""
    pixels = load_packaged(size=SIZE).to_float()[:64]
    tokenizer = PatchBits(PatchBitsConfig(patch=4, width=8, scales=SCALES))
    tokenizer.fit(pixels, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"bits": 8, "text_length": 3, "text_width": 16, "levels": 3}
    config = InfinityConfig(32, 2, 2, condition="caption", reference="own", gate_gain=1.0, **sizes)
    folder = tmp_path_factory.mktemp("by-prompt") / "pipeline"
    generator = Infinity(config)
    torch.nn.init.normal_(generator.output.weight, std=0.3)
    Pipeline(tokenizer, generator, (), (SIZE, SIZE)).save_pretrained(folder)
    return folder


def tune(*words: object) -> int:
    """Call `limner tune subject`."""
    return main(["tune", "subject", *map(str, [*words[:2], *QUICK, *words[2:]])])


def test_a_class_of_ones_own(by_class: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    assert tune(by_class, pictures, "--word", "rex", "--kind", "b", "--output", output) == 0
    before, after = (Pipeline.from_pretrained(folder) for folder in (by_class, output))
    assert after.classes == ("a", "b", "c", "rex")
    old = before.generator.state_dict()
    new = after.generator.state_dict()
    changed = {
        name
        for name, weight in new.items()
        if (plain := name.removeprefix("base.").replace("condition.inner", "condition")) not in old
        or not torch.equal(weight, old[plain])
    }
    wanted = {f"base.blocks.{b}.mlp.{p}" for b in (0, 1) for p in ("into.weight", "into.bias")}
    wanted |= {f"base.blocks.{b}.mlp.{p}" for b in (0, 1) for p in ("out.weight", "out.bias")}
    assert changed == wanted | {"base.condition.words"}
    assert after(["rex"], seed=3).pictures.shape == (1, 3, SIZE, SIZE)
    asked = after(["rex", "b"], seed=[3, 3], guidance=2.0)
    assert not torch.equal(asked.tokens.ids[0], asked.tokens.ids[1])
    with Image.open(output / "samples.png") as shown:
        assert shown.width > 4 * SIZE


def test_it_learns_and_distillation_keeps_the_kind(
    by_class: Path, pictures: Path, tmp_path: Path
) -> None:
    moved = {}
    for name, weight, steps in (("kept", 5.0, 48), ("free", 0.0, 24)):
        given = ("--word", "rex", "--kind", "b", "--prior.weight", weight, "--budget.steps", steps)
        assert tune(by_class, pictures, *given, "--output", tmp_path / name) == 0
        log = (tmp_path / name / "log.jsonl").read_text().splitlines()
        measured = [line for line in map(json.loads, log) if "held_out" in line]
        first, last = measured[0], measured[-1]
        assert first["held_out_prior_distance"] < 1e-6
        assert last["held_out_subject_loss"] < 0.7 * first["held_out_subject_loss"]
        moved[name] = last["held_out_prior_distance"]
    assert moved["kept"] < 0.5 * moved["free"]


def test_a_word_in_captions(by_prompt: Path, pictures: Path, tmp_path: Path) -> None:
    files = sorted(pictures.iterdir())[:2]
    output = tmp_path / "tuned"
    given = ("--word", "<rex>", "--kind", "dog", "--output", output)
    assert tune(by_prompt, "+".join(map(str, files)), *given, "--prior.kind", "hard") == 0
    after = Pipeline.from_pretrained(output)
    drawn = after(prompts=["a photo of <rex> dog", "a photo of dog"], seed=[1, 1])
    assert not torch.equal(drawn.tokens.ids[0], drawn.tokens.ids[1])


def test_words_change_what_reads_them_and_the_mlps_alone(
    by_prompt: Path, pictures: Path, tmp_path: Path
) -> None:
    """Every tensor that is listed changes in two steps, and no other does."""
    given = ("--word", "<rex>", "--kind", "dog", "--budget.steps", 2)
    assert tune(by_prompt, pictures, *given, "--output", tmp_path / "tuned") == 0
    before, after = (Pipeline.from_pretrained(p).generator for p in (by_prompt, tmp_path / "tuned"))
    old = {f"base.{name}": weight for name, weight in before.state_dict().items()}
    changed = set()
    for name, weight in after.state_dict().items():
        plain = name.replace("condition.inner", "condition")
        if plain not in old or not torch.equal(weight, old[plain]):
            changed.add(name)
    assert isinstance(after, ARBooth)
    assert changed == set(after.tuned(("cross-attention", "mlp")))


def test_other_orders_are_tuned_too(
    tiny_pipeline_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    names = Pipeline.from_pretrained(tiny_pipeline_folder).classes
    given = ("--word", "rex", "--kind", names[0], "--output", tmp_path / "tuned")
    assert tune(tiny_pipeline_folder, pictures, *given, "--layers", "[mlp, attention]") == 0
    assert Pipeline.from_pretrained(tmp_path / "tuned").classes == (*names, "rex")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--kind", "z"], "unknown class 'z'"),
        (["--kind", "b", "--layers", "[cross-attention]"], "VAR has no cross-attention"),
        (["--kind", "b", "--layers", "[mpl]"], "did you mean 'mlp'?"),
        (["--kind", "b", "--prior.wieght", "1"], "did you mean 'weight'?"),
        (["--kind", "b", "--word", " "], "word=' '"),
    ],
)
def test_tuning_that_cannot_begin(
    by_class: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: str,
) -> None:
    given = ["--word", "rex", "--output", tmp_path / "tuned", *words]
    assert tune(by_class, pictures, *given) == 2
    assert expected in capsys.readouterr().err


def test_one_picture_is_too_few(
    by_class: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--word", "rex", "--kind", "b", "--output", tmp_path / "tuned")
    assert tune(by_class, pictures / "0.png", *given) == 2
    assert "holds 1 picture of the subject: 2 or more are needed" in capsys.readouterr().err
    assert tune(by_class, pictures / "9.png", *given) == 2
    assert "does not exist" in capsys.readouterr().err
    assert tune(tmp_path / "none", pictures, *given) == 2
    assert not (tmp_path / "tuned").exists()


def test_what_is_tuned_already_is_not_tuned_again(
    by_class: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (pictures, "--word", "rex", "--kind", "b", "--output")
    assert tune(by_class, *given, tmp_path / "first") == 0
    assert tune(tmp_path / "first", *given, tmp_path / "second") == 2
    assert "it knows a subject already" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trained_pipeline_learns_a_subject_and_forgets_less_of_its_kind(tmp_path: Path) -> None:
    """Faces of a cat by another artist than all that it was trained on."""
    small = {"width": 64, "depth": 2, "heads": 2, "latent": 16, "gate_gain": 1.0}
    fields: dict[str, Any] = {"model.config": small, "budget.seconds": None, "budget.steps": 250}
    fields |= {"sample.each": 0, "evaluations": 1, "device": "cpu"}
    trained = tmp_path / "trained"
    train(load_recipe("var/tiny", {**fields, "output": str(trained)}))
    kind, noto = "Smileys & Emotion", load_packaged("noto", 32)
    cats = [index for index, caption in enumerate(noto.captions) if "cat" in caption.split()]
    folder = tmp_path / "cat"
    folder.mkdir()
    for number, image in enumerate(to_images(noto.to_float(cats[:4]))):
        image.save(folder / f"{number}.png")
    others = load_packaged(size=32, classes=[kind]).to_float()

    def of_kind(pipeline: Pipeline) -> float:
        model, number = pipeline.generator, pipeline.class_number(kind)
        asked = model.condition.ask(Request(len(others), labels=[number] * len(others)))
        with torch.no_grad():
            return float(model.loss(pipeline.tokenizer.encode(others), asked).total)

    before, risen = of_kind(Pipeline.from_pretrained(trained)), {}
    for name, weight, steps in (("kept", 2.0, 80), ("free", 0.0, 40)):
        output = tmp_path / name
        given = ("--word", "tama", "--kind", kind, "--optimizer.lr", 3e-3, "--output", output)
        prior = ("--prior.weight", weight, "--budget.steps", steps)
        assert tune(trained, folder, *given, *prior) == 0
        log = map(json.loads, (output / "log.jsonl").read_text().splitlines())
        first, *_, last = [line["held_out_subject_loss"] for line in log if "held_out" in line]
        risen[name] = of_kind(Pipeline.from_pretrained(output)) - before
        assert last < 0.7 * first
    assert 0 < risen["kept"] < 0.7 * risen["free"]
