"""What can be asked of a pipeline, and what it says of the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from limner.core.errors import ConfigError
from limner.pipeline import Pipeline
from limner.tokenizers.patches import PatchKMeans
from tests.pipeline.small import SIZE, generator, ids


def test_a_picture_for_every_class(pipeline: Pipeline) -> None:
    result = pipeline(classes=["Fox", 3], seed=1)
    assert result.pictures.shape == (2, 3, SIZE, SIZE)
    assert result.pictures.dtype == torch.float32
    assert result.pictures.abs().max() <= 1
    assert result.tokens.known.all()
    assert [image.size for image in result.images] == [(SIZE, SIZE)] * 2
    assert [image.mode for image in result.images] == ["RGB"] * 2
    decoded = pipeline.tokenizer.decode(result.tokens)
    assert torch.equal(result.pictures, decoded)
    assert [each["class"] for each in result.settings] == ["Fox", "Whale"]
    other = pipeline(classes=["Oak", 3], seed=1)
    assert not torch.equal(ids(result)[0], ids(other)[0])
    assert torch.equal(ids(result)[1], ids(other)[1])


@pytest.mark.parametrize(
    ("name", "number"),
    [("Oak", 1), ("oak", 1), ("WHALE", 3), (2, 2), ("2", 2), ("7", 4), (torch.tensor(3), 3)],
)
def test_classes_by_name_or_number(pipeline: Pipeline, name: Any, number: int) -> None:
    assert pipeline.class_number(name) == number


def test_classes_that_differ_in_case_alone(tokenizer: PatchKMeans) -> None:
    pipeline = Pipeline(tokenizer, generator(), ("fox", "FOX", "ſ"))
    assert [pipeline.class_number(name) for name in ("fox", "FOX", "Fox", "S")] == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Tulp", "did you mean 'Tulip'"),
        ("whales", "did you mean 'Whale'"),
        ("²", "unknown class"),
        (5, "class=5 .* from 0 to 4"),
        (-1, "class=-1 .* from 0 to 4"),
        ("12", "class=12 .* from 0 to 4"),
    ],
)
def test_a_class_that_does_not_exist(pipeline: Pipeline, name: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(classes=["Fox", name])


def test_classes_without_names(tokenizer: PatchKMeans) -> None:
    for names in ((), ("Fox",)):
        nameless = Pipeline(tokenizer, generator(), names, (SIZE, SIZE))
        assert nameless(classes=[3]).settings[0]["class"] == 3
        with pytest.raises(ConfigError, match="unknown class 'Oak'"):
            nameless(classes=["Oak"])


def test_nothing_asked_for_is_the_null_class(pipeline: Pipeline) -> None:
    free = pipeline(count=2, seed=4)
    assert [each["class"] for each in free.settings] == [None, None]
    assert torch.equal(ids(free), ids(pipeline(classes=[0, 0], seed=4, guidance=0.0)))


def test_prompts(captioned: Pipeline) -> None:
    result = captioned(prompts=["a red fox", "an oak"], count=2, seed=2)
    assert [each["prompt"] for each in result.settings] == ["a red fox", "an oak"] * 2
    assert [each["class"] for each in result.settings] == [None] * 4
    same = captioned(prompts=["A red fox ", "a whale"], seed=2)
    assert torch.equal(ids(same)[0], ids(result)[0])
    assert not torch.equal(ids(same)[1], ids(result)[1])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": ["Fox", 1], "prompts": ["a fox"]}, "and styles must be as many"),
        ({"classes": []}, r"classes=\[\]"),
        ({"prompts": []}, r"prompts=\[\]"),
        ({"classes": "Fox"}, "classes='Fox' .* a list"),
        ({"prompts": "a red fox"}, "prompts='a red fox' .* a list"),
        ({"classes": [0], "count": 0}, "count=0"),
        ({"classes": [0, 1], "seed": [1]}, r"seed=\[1\] .* 2 of them"),
        ({"classes": [0], "count": 2, "seed": (1, 2, 3)}, r"seed=\[1, 2, 3\] .* 2 of them"),
        ({"classes": [0], "guidance": "2"}, "guidance='2'"),
        ({"classes": [0], "temperature": -1.0}, "temperature=-1.0"),
        ({"classes": [0], "top_p": 0.0}, "top_p=0.0"),
        ({"classes": [0], "top_k": -1}, "top_k=-1"),
        ({"classes": [0], "size": 32}, "size=32 .* height and width"),
        ({"classes": [0], "size": (32, 36)}, "size='32x36' .* multiples of 8"),
        ({"classes": [0], "size": (0, 32)}, "size='0x32'"),
        ({"classes": [0], "guidence": 2.0}, "unknown setting 'guidence': did you mean 'guidance'"),
    ],
)
def test_what_cannot_be_asked_for(pipeline: Pipeline, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(**asked)
    with pytest.raises(ConfigError, match=message):
        next(pipeline.stream(**asked))


def test_classes_and_prompts_go_to_generators_that_read_them(
    pipeline: Pipeline, captioned: Pipeline
) -> None:
    for classes in (None, [1]):
        with pytest.raises(ConfigError, match="prompts are not accepted"):
            pipeline(classes, prompts=["a fox"])
    for prompts in (None, ["a fox"]):
        with pytest.raises(ConfigError, match="classes are not accepted"):
            captioned([1], prompts)
