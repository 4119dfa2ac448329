"""Samples are drawn once, go on after a stop, and do not depend on where it happened."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.conditions.prompt_tokens import PromptTokens
from limner.core.errors import ConfigError, DataError
from limner.data import open_source
from limner.data.class_captions import ClassCaptions
from limner.evaluation import samples
from limner.evaluation.asking import Asking, as_given, asking_for, balanced
from limner.evaluation.samples import Drawing, SampleSet, draw_samples, read_samples
from limner.metrics.references import read_reference
from limner.pipeline import Pipeline

from .conftest import Held


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SHARD", 6)


def drawing(asking: Asking, **fields: Any) -> Drawing:
    values = {"seed": 3, "batch": 4, "size": (16, 16), "settings": {"guidance": 1.5}, **fields}
    return Drawing("pipeline", "weights", "float32", asking.rule, asking.digest, **values)


def whole(made: SampleSet) -> Tensor:
    return torch.cat(list(made.batches(5)))


class Stops:
    """A pipeline that is killed when it has drawn so many batches."""

    def __init__(self, pipeline: Pipeline, batches: int) -> None:
        self.pipeline, self.left = pipeline, batches

    def __call__(self, **asked: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.pipeline(**asked)


def test_pictures_are_those_of_the_pipeline(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    asking = balanced(2)
    made = draw_samples(tiny_pipeline, drawing(asking), asking, 10, tmp_path / "new" / "samples")
    assert len(made) == 10 and made.labels().tolist() == [0, 1] * 5
    seeds = [3, 4, 5, 6]
    direct = tiny_pipeline(classes=[0, 1, 0, 1], seed=seeds, guidance=1.5)
    assert torch.equal(whole(made)[:4], Held(_levels(direct.pictures)).levels)
    assert [file.name for file, _ in made.shards()] == ["shard-00000.npz", "shard-00001.npz"]


def test_a_kill_at_any_batch_changes_nothing(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    asking = balanced(2)
    plan = drawing(asking)
    expected = whole(draw_samples(tiny_pipeline, plan, asking, 18, tmp_path / "whole"))
    folder = tmp_path / "killed"
    for batches in (0, 1, 2, 1):
        with pytest.raises(KeyboardInterrupt):
            draw_samples(Stops(tiny_pipeline, batches), plan, asking, 18, folder)  # type: ignore[arg-type]
        (folder / ".shard-00001.0123abcd.npz").write_bytes(b"cut off")  # as a kill leaves it
    done = []
    made = draw_samples(
        tiny_pipeline, plan, asking, 18, folder, lambda _, n, total: done.append((n, total))
    )
    assert torch.equal(whole(made), expected)
    assert not list(folder.glob(".*"))
    assert done[0] == (8, 18) and done[-1] == (18, 18)
    again = draw_samples(Stops(tiny_pipeline, 0), plan, asking, 18, folder)  # type: ignore[arg-type]
    assert torch.equal(whole(again), expected)


def test_a_larger_set_begins_with_the_smaller_one(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    asking = balanced(2)
    plan = drawing(asking)
    small = whole(draw_samples(tiny_pipeline, plan, asking, 5, tmp_path / "a"))
    assert len(read_samples(tmp_path / "a")) == 5
    large = draw_samples(tiny_pipeline, plan, asking, 13, tmp_path / "a")
    assert torch.equal(whole(large)[:5], small)
    at_once = draw_samples(tiny_pipeline, plan, asking, 13, tmp_path / "b")
    assert torch.equal(whole(large), whole(at_once))
    assert len(read_samples(tmp_path / "a")) == 13
    smaller = draw_samples(Stops(tiny_pipeline, 0), plan, asking, 9, tmp_path / "a")  # type: ignore[arg-type]
    assert torch.equal(whole(smaller), whole(large)[:9])


def test_the_order_of_rows_in_a_batch_does_not_matter(tiny_pipeline: Pipeline) -> None:
    order = [2, 0, 3, 1]
    classes, seeds = [0, 1, 1, 0], [5, 6, 7, 8]
    drawn = tiny_pipeline(classes=classes, seed=seeds).pictures
    other = tiny_pipeline(
        classes=[classes[i] for i in order], seed=[seeds[i] for i in order]
    ).pictures
    assert torch.equal(_levels(other), _levels(drawn)[order])


def test_all_pictures_in_one_file(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    asking = balanced(2)
    made = draw_samples(tiny_pipeline, drawing(asking), asking, 10, tmp_path / "s")
    made.join(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz", allow_pickle=False) as archive:
        assert archive["arr_0"].shape == (10, 16, 16, 3) and archive["arr_0"].dtype == np.uint8
        assert archive["arr_1"].tolist() == [0, 1] * 5
    read = torch.cat(list(read_reference(tmp_path / "all.npz").pictures(3)))
    assert torch.equal(read, whole(made))
    with pytest.raises(DataError, match=r"end in \.npz"):
        made.join(tmp_path / "all.zip")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"seed": 4}, "seed=3, not 4"),
        ({"settings": {"guidance": 2.0}}, "guidance"),
        ({"weights": "others"}, "weights='weights', not 'others'"),
        ({"batch": 5}, "batch=4"),
    ],
)
def test_a_folder_of_other_samples_is_left_alone(
    tiny_pipeline: Pipeline, tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    asking = balanced(2)
    folder = tmp_path / "s"
    draw_samples(tiny_pipeline, drawing(asking), asking, 4, folder)
    values = json.loads((folder / "samples.json").read_text()) | change
    with pytest.raises(DataError, match=expected):
        draw_samples(tiny_pipeline, Drawing(**values), asking, 4, folder)


def test_folders_and_files_that_are_no_samples(tiny_pipeline: Pipeline, tmp_path: Path) -> None:
    asking = balanced(2)
    plan = drawing(asking)
    (tmp_path / ".samples.0123abcd.json").write_text("cut off")  # as a kill leaves it
    assert len(draw_samples(tiny_pipeline, plan, asking, 4, tmp_path)) == 4
    (tmp_path / "samples.json").unlink()
    (tmp_path / "mine.txt").write_text("a diary")
    with pytest.raises(DataError, match="holds other files"):
        draw_samples(tiny_pipeline, plan, asking, 4, tmp_path)
    made = draw_samples(tiny_pipeline, plan, asking, 9, tmp_path / "s")
    (tmp_path / "s" / "shard-00000.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"shard-00000\.npz"):
        list(made.batches())
    (tmp_path / "s" / "shard-00000.npz").unlink()
    with pytest.raises(DataError, match="no samples yet"):
        read_samples(tmp_path / "s")
    (tmp_path / "s" / "samples.json").write_text("{}")
    with pytest.raises(DataError, match=r"samples\.json is broken"):
        read_samples(tmp_path / "s")
    with pytest.raises(ConfigError, match="samples=0"):
        draw_samples(tiny_pipeline, plan, asking, 0, tmp_path / "t")
    with pytest.raises(ConfigError, match="plain value"):
        drawing(asking, settings={"guidance": object()})


def test_classes_are_asked_for_as_often_as_they_are_there(tiny_pipeline: Pipeline) -> None:
    real = open_source("twemoji", tiny_pipeline.classes)
    asking = asking_for(tiny_pipeline, real)
    assert asking.at(0, len(real)).count(1) == int((real.labels == 1).sum())
    assert asking.at(0, 40) == asking.at(len(real), len(real) + 40)
    reversed_names = open_source("twemoji", tiny_pipeline.classes[::-1])
    swapped = asking_for(tiny_pipeline, reversed_names)
    assert swapped.at(0, len(real)).count(1) == int((real.labels == 1).sum())
    others = open_source("twemoji", ["Flags"])
    assert asking_for(tiny_pipeline, others) == balanced(2)
    assert asking_for(tiny_pipeline, real, "balanced") == balanced(2)
    with pytest.raises(ConfigError, match="as-real"):
        asking_for(tiny_pipeline, others, "as-real")


def test_captions_need_an_evaluation_set() -> None:
    class Told:
        by = ("prompt",)

    class Generator:
        condition = Told()

    class Fake:
        generator = Generator()

    with pytest.raises(ConfigError, match="captions"):
        asking_for(Fake(), None)  # type: ignore[arg-type]
    asked = as_given("prompt", ["a", "b", "b"], "photos")
    assert sorted(asked.at(0, 3)) == ["a", "b", "b"]
    assert asked.rule == "captions as often as in photos"
    assert asked.request(0, 2) == {"prompts": asked.at(0, 2)}
    assert asked.labels(0, 4) == [-1] * 4
    known = as_given("prompt", ["a", "b", "b"], "photos", classes=[0, 1, 1])
    assert known.labels(1, 5) == ["ab".index(caption) for caption in known.at(1, 5)]


def test_captions_of_the_pipelines_classes_tell_the_class(tiny_pipeline: Pipeline) -> None:
    real = ClassCaptions(open_source("twemoji", tiny_pipeline.classes))
    told = SimpleNamespace(condition=SimpleNamespace(by=("prompt",)))
    fake: Any = SimpleNamespace(generator=told, classes=tiny_pipeline.classes)
    asking = asking_for(fake, real)
    assert [tiny_pipeline.classes[label] for label in asking.labels(0, 9)] == asking.at(0, 9)
    by_class = asking_for(tiny_pipeline, real)
    assert by_class.labels(0, 99) == asking.labels(0, 99), "picture i is of the same class in both"
    fake.classes = ("others",)
    assert asking_for(fake, real).labels(0, 1) == [-1]


def test_classes_that_are_tokens_of_a_vocabulary_are_asked_for(tiny_pipeline: Pipeline) -> None:
    condition = PromptTokens(1, 32)
    fake: Any = SimpleNamespace(
        generator=SimpleNamespace(condition=condition), classes=tiny_pipeline.classes
    )
    real = open_source("twemoji", tiny_pipeline.classes)
    assert asking_for(fake, real) == asking_for(tiny_pipeline, real)
    assert asking_for(fake, None) == balanced(2)


def _levels(pictures: Tensor) -> Tensor:
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
