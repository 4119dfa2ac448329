"""A pipeline that is asked by captions, styles and classes, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.cli.sample import named
from limner.core.errors import CheckpointError, ConfigError
from limner.data import open_source
from limner.evaluation.asking import asking_for
from limner.hub.shipped import FIRST
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.pipeline import Pipeline
from limner.show import read_settings

STYLES = ("twemoji", "noto")


@pytest.fixture(scope="module")
def described(tiny_pipeline: Pipeline) -> Pipeline:
    torch.manual_seed(0)
    config = LlamaGenConfig(
        width=32, depth=1, heads=2, codebook_size=32, classes=2, styles=2, multiple_of=16,
        condition="description", text_length=2,
    )  # fmt: skip
    generator = LlamaGen(config)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.copy_(0.6 * torch.randn(weight.shape))
    return Pipeline(
        tiny_pipeline.tokenizer,
        generator,
        tiny_pipeline.classes,
        tiny_pipeline.size,
        styles=STYLES,
        defaults={"guidance": 1.5, "top_p": 0.9},
    )


@pytest.fixture(scope="module")
def folder(described: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("described") / "pipeline"
    described.save_pretrained(path)
    return path


def test_every_word_of_what_is_asked_matters(described: Pipeline) -> None:
    asked = {"classes": [0], "prompts": ["a red fox"], "styles": ["noto"]}
    whole = described(**asked, seed=3, count=4)
    assert whole.settings[0]["style"] == "noto" and whole.settings[0]["prompt"] == "a red fox"
    for name, other in (("classes", [1]), ("prompts", ["a ship"]), ("styles", [0])):
        drawn = described(**{**asked, name: other}, seed=3, count=4)
        assert not torch.equal(drawn.tokens.ids, whole.tokens.ids)
    same = described(classes=[0], prompts=["red FOX"], styles=[1], seed=3, count=4)
    assert torch.equal(same.tokens.ids, whole.tokens.ids)


def test_defaults_hold_until_something_else_is_said(described: Pipeline) -> None:
    silent, said = described(prompts=["fox"]), described(prompts=["fox"], guidance=1.5, top_p=0.9)
    assert silent.settings == said.settings
    assert torch.equal(silent.tokens.ids, said.tokens.ids)
    assert described(prompts=["fox"], guidance=1.0).settings[0]["guidance"] == 1.0


def test_styles_and_defaults_are_saved(described: Pipeline, folder: Path) -> None:
    loaded = Pipeline.from_pretrained(folder)
    assert loaded.styles == STYLES and loaded.defaults == described.defaults
    drawn, expected = (each(prompts=["fox"], styles=["noto"]) for each in (loaded, described))
    assert torch.equal(drawn.tokens.ids, expected.tokens.ids)


def test_what_does_not_fit_is_refused(
    described: Pipeline, tiny_pipeline: Pipeline, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'noto'"):
        described(prompts=["fox"], styles=["noot"])
    with pytest.raises(ConfigError, match="style=2"):
        described(prompts=["fox"], styles=[2])
    with pytest.raises(ConfigError, match="knows no styles"):
        tiny_pipeline(classes=[0], styles=["noto"])
    with pytest.raises(ConfigError, match="classes, prompts and styles"):
        described(prompts=["fox"], styles=["noto", "twemoji"])
    with pytest.raises(ConfigError, match="guidence"):
        Pipeline(described.tokenizer, described.generator, defaults={"guidence": 2.0})
    index = (folder / "limner.json").read_text()
    (tmp_path / "limner.json").write_text(index.replace('"noto"', "3"))
    with pytest.raises(CheckpointError, match="styles must be a list of names"):
        Pipeline.from_pretrained(tmp_path)


def test_the_command_asks_by_words_and_styles(limner, folder: Path) -> None:
    ran = limner("sample", folder, "a red fox", "ship", "--style", "noto", "--output", "out")
    assert ran.code == 0, ran.err
    assert ran.out.split() == ["out/a-red-fox-noto-0.png", "out/ship-noto-1.png"]
    settings = read_settings("out/ship-noto-1.png")["settings"]
    assert (settings["prompt"], settings["style"], settings["top_p"]) == ("ship", "noto", 0.9)
    again = limner("sample", "--from", "out/ship-noto-1.png", "--output", "out")
    assert again.code == 0, again.err
    refused = limner("sample", folder, "fox", "--style", "oil")
    assert refused.code == 2 and "style 'oil'" in refused.err


def test_the_first_word_names_a_pipeline_if_it_can(tmp_path: Path) -> None:
    assert named(["a red fox"]) == (FIRST, ["a red fox"])
    assert named([str(tmp_path), "fox"]) == (str(tmp_path), ["fox"])
    assert named(["user/model", "fox", "owl"]) == ("user/model", ["fox", "owl"])
    assert named(["runs/not-there"]) == ("runs/not-there", [])
    assert named(["cat and/or dog"]) == (FIRST, ["cat and/or dog"])


def test_an_evaluation_asks_for_captions_in_their_styles(described: Pipeline) -> None:
    real = open_source("twemoji+noto", described.classes).at(range(0, 400, 40))
    asking = asking_for(described, real)
    assert asking.by == "prompt and style"
    pairs = {(real.caption(i), real.styles[real.style[i]]) for i in range(len(real))}
    assert {tuple(pair) for pair in asking.at(0, len(real))} == pairs
    plain = open_source("twemoji", described.classes).at(range(4))
    assert asking_for(described, plain).by == "prompt"
