"""What is chosen follows from pictures and machine, and can be overruled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.core.config import from_dict
from limner.core.errors import ConfigError, DataError
from limner.data.survey import Captions, Spread, Survey
from limner.make.machine import Machine, look_at_machine
from limner.make.planning import Plan, Wishes, plan
from limner.training import Recipe, TokenizerRecipe

CPU = Machine("cpu", "CPU", 16, 2)
GPU = Machine("cuda:0", "NVIDIA H100", 80, 16)


def survey(pictures: int = 2000, side: float = 100, **other: Any) -> Survey:
    """A survey of so many pictures."""
    fields: dict[str, Any] = {
        "name": "photos",
        "total": pictures,
        "classes": {"cat": pictures // 2, "dog": pictures - pictures // 2},
        "looked": pictures,
        "short_side": Spread(side, side, side),
        "aspect": Spread(1, 1, 1),
        "modes": {"RGB": pictures},
        "animated": 0,
        "captions": Captions(0, pictures, Spread(1, 1, 1), ("cat",)),
        "unreadable": {},
        "duplicates": (),
        "bytes": 1000,
    }
    return Survey(**{**fields, **other})


def planned(survey: Survey, machine: Machine = CPU, **wishes: Any) -> Plan:
    """The plan, after both of its recipes were read."""
    made = plan("photos", survey, machine, Path("runs/photos"), Wishes(**wishes))
    steps = {"steps": 10}
    for cls, values in ((TokenizerRecipe, made.tokenizer), (Recipe, made.generator)):
        from_dict(cls, {**values, "budget": {**values["budget"], **steps}})
    return made


def test_sizes_grow_with_pictures_time_and_machine() -> None:
    def size(*arguments: Any, **wishes: Any) -> int:
        return planned(*arguments, **wishes).tokenizer["data"]["size"]

    assert size(survey()) == 32
    assert size(survey(), minutes=240) == 64
    assert size(survey(), GPU) == 64
    assert size(survey(side=20), GPU) == 16, "never larger than the pictures"
    assert size(survey(side=600), GPU, minutes=2000) == 256
    assert size(survey(), size=48) == 48


def test_codes_and_networks_grow_with_the_number_of_pictures() -> None:
    def codes(pictures: int) -> int:
        config = planned(survey(pictures)).tokenizer["tokenizer"]["config"]
        return config["quantizer"]["codebook_size"]

    assert [codes(n) for n in (100, 400, 2_000, 50_000)] == [128, 256, 1024, 1024]
    dropouts = [
        planned(survey(n)).generator["model"]["config"]["dropout"] for n in (100, 2_000, 50_000)
    ]
    assert dropouts == sorted(dropouts, reverse=True)


def test_captions_ask_where_there_is_one_class_and_they_are_written() -> None:
    written = Captions(1900, 1900, Spread(3, 5, 9), ("a red fox",))
    alone = {"classes": {"photos": 2000}, "captions": written}
    assert planned(survey(**alone)).generator["model"]["config"]["condition"] == "caption"
    assert "condition" not in planned(survey(captions=written)).generator["model"]["config"]


def test_wishes_go_before_choices() -> None:
    made = planned(
        survey(),
        tokenizer={"data": {"views": {"flip": 0.0}}, "perceptual": None},
        generator={"model": {"config": {"depth": 9}}},
    )
    assert made.tokenizer["data"]["views"]["flip"] == 0.0
    assert made.tokenizer["perceptual"] is None
    assert made.generator["model"]["config"]["depth"] == 9
    with pytest.raises(ConfigError, match="minutes=-1"):
        Wishes(minutes=-1)
    with pytest.raises(ConfigError, match="size=18"):
        planned(survey(), size=18)


def test_every_choice_has_a_reason() -> None:
    text = "\n".join(f"{choice}: {reason}" for choice, reason in planned(survey()).reasons)
    for word in ("minutes", "32 x 32 pixels", "8 x 8 tokens", "codes", "2 classes", "views"):
        assert word in text


def test_too_few_pictures_are_refused() -> None:
    unreadable = {f"{n}.png": "broken" for n in range(15)}
    with pytest.raises(DataError, match=r"'photos' has 15 readable pictures: at least 20"):
        planned(survey(30, unreadable=unreadable))


def test_the_machine_is_looked_at() -> None:
    machine = look_at_machine("cpu")
    assert machine.cores >= 1 and machine.memory > 0.1 and not machine.is_fast
    assert "cores" in str(machine)
