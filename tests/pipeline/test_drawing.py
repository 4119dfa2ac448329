"""Seeds and settings; watching, leaving and compiling what draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.row import Event
from limner.decoding.loop import Cancelled
from limner.heads.guidance import Constant, Interval
from limner.pipeline import Pipeline
from limner.tokenizers.patches import PatchKMeans
from tests.pipeline.small import CLASSES, CODES, SIZE, TOKENS, generator, ids


def test_picture_i_is_drawn_from_seed_plus_i(pipeline: Pipeline) -> None:
    result = pipeline(classes=["Fox", 2], count=3, seed=10)
    assert [each["seed"] for each in result.settings] == list(range(10, 16))
    assert [each["class"] for each in result.settings] == ["Fox", "Tulip"] * 3
    assert len(ids(result).unique(dim=0)) == 6
    alone = pipeline(classes=["Tulip"], seed=13)
    assert torch.equal(ids(alone)[0], ids(result)[3])


def test_every_picture_may_have_its_own_seed(pipeline: Pipeline) -> None:
    given = pipeline(classes=[0, 0, 0], seed=[9, 4, 9])
    assert [each["seed"] for each in given.settings] == [9, 4, 9]
    assert torch.equal(ids(given)[0], ids(given)[2])
    assert torch.equal(ids(given)[1], ids(pipeline(classes=[0], seed=4))[0])
    assert not torch.equal(ids(given)[0], ids(given)[1])


def test_the_same_call_twice_is_bit_exact(pipeline: Pipeline) -> None:
    first, second = (pipeline(classes=[1, 2], guidance=3.0, seed=2) for _ in range(2))
    assert torch.equal(first.pictures, second.pictures)


def test_settings_are_plain_and_draw_the_picture_again(pipeline: Pipeline) -> None:
    settings = {"guidance": 2.5, "temperature": 0.9, "top_k": 12, "top_p": 0.95, "min_p": 0.01}
    result = pipeline(classes=["oak", 2], seed=3, size=(16, 32), **settings)
    for index in range(2):
        record = json.loads(json.dumps(result.settings[index]))
        assert record | settings == record
        classes, prompt = [record.pop("class")], record.pop("prompt")
        assert prompt is None
        again = pipeline(classes=classes, **record)
        assert torch.equal(ids(again)[0], ids(result)[index])
        assert again.settings[0] == result.settings[index]


def test_settings_reach_the_draw(pipeline: Pipeline) -> None:
    greedy = ids(pipeline(classes=[1, 2], temperature=0.0, seed=0))
    assert torch.equal(greedy, ids(pipeline(classes=[1, 2], top_k=1, seed=5)))
    assert torch.equal(greedy, ids(pipeline(classes=[1, 2], top_p=1e-6, seed=6)))
    assert torch.equal(greedy, ids(pipeline(classes=[1, 2], min_p=0.999999, seed=7)))
    plain = ids(pipeline(classes=[1, 2]))
    assert not torch.equal(plain, greedy)
    assert not torch.equal(plain, ids(pipeline(classes=[1, 2], guidance=4.0)))

    def only_five(logits: Tensor, row: object, tokens: Tensor) -> Tensor:
        return logits.masked_fill(torch.arange(CODES) != 5, -torch.inf)

    assert (ids(pipeline(classes=[1], processors=(only_five,))) == 5).all()


def test_guidance_is_a_number_or_a_schedule(pipeline: Pipeline) -> None:
    number = ids(pipeline(classes=[1, 2], guidance=3.0))
    assert torch.equal(number, ids(pipeline(classes=[1, 2], guidance=Constant(3.0))))
    early = pipeline(classes=[1, 2], guidance=Interval(3.0, 0, 3))
    assert torch.equal(ids(early)[:, :4], number[:, :4])
    assert not torch.equal(ids(early), number)
    assert json.dumps(early.settings)


def test_other_sizes(pipeline: Pipeline) -> None:
    wide = pipeline(classes=[1], size=(16, 48))
    assert wide.pictures.shape == (1, 3, 16, 48)
    assert wide.settings[0]["size"] == [16, 48]
    assert pipeline(classes=[1]).pictures.shape == (1, 3, SIZE, SIZE)


def test_a_stream_shows_every_step_and_ends_in_the_picture(pipeline: Pipeline) -> None:
    settings = {"classes": ["Fox", "Oak"], "guidance": 2.0, "seed": 3}
    result = pipeline(**settings)
    previews = list(pipeline.stream(**settings))
    assert [preview.step for preview in previews] == list(range(1, TOKENS + 1))
    assert {preview.total for preview in previews} == {TOKENS}
    assert torch.equal(previews[-1].pictures, result.pictures)
    for step, preview in enumerate(previews, start=1):
        shown = preview.pictures.unflatten(-1, (4, 8)).unflatten(-3, (4, 8))
        drawn = shown.abs().amax((1, 3, 5)).flatten(1) > 0
        assert drawn[:, :step].all()
        assert not drawn[:, step:].any()


def test_a_stream_can_be_left(pipeline: Pipeline) -> None:
    stream = pipeline.stream(classes=[0])
    assert next(stream).step == 1
    stream.close()
    assert list(stream) == []


def test_hooks_and_the_callback_see_every_step(pipeline: Pipeline) -> None:
    seen: list[tuple[Pipeline, int, int]] = []
    hooked: list[int] = []

    def callback(owner: Pipeline, step: int, events: list[Event]) -> None:
        assert all(event.row.tokens.known.sum() == step + 1 for event in events)
        assert all(event.finished == (step == TOKENS - 1) for event in events)
        seen.append((owner, step, len(events)))

    pipeline(
        classes=[0, 1],
        guidance=2.0,
        hooks=[lambda events: hooked.append(events[0].step.index)],
        callback_on_step_end=callback,
    )
    assert seen == [(pipeline, step, 2) for step in range(TOKENS)]
    assert hooked == list(range(TOKENS))


@pytest.mark.parametrize("last", [0, 6, TOKENS - 1])
def test_cancelling_keeps_what_is_drawn(pipeline: Pipeline, last: int) -> None:
    steps: list[int] = []

    def stop(_: Pipeline, step: int, events: list[Event]) -> None:
        steps.append(step)
        if step == last:
            raise Cancelled

    whole = pipeline(classes=[0, 1], seed=1)
    part = pipeline(classes=[0, 1], seed=1, callback_on_step_end=stop)
    assert steps == list(range(last + 1))
    assert part.tokens.known.sum(1).tolist() == [last + 1] * 2
    assert torch.equal(ids(part)[:, : last + 1], ids(whole)[:, : last + 1])
    previews = list(pipeline.stream(classes=[0, 1], seed=1))
    assert torch.equal(part.pictures, previews[last].pictures)


def test_other_errors_of_a_hook_come_through(pipeline: Pipeline) -> None:
    def broken(events: Sequence[Event]) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pipeline(classes=[0], hooks=[broken])


needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "eager", "fullgraph": True},  # raises where a block falls into pieces
        pytest.param({}, marks=(pytest.mark.slow, needs_compiler)),
    ],
)
def test_a_compiled_pipeline_draws_the_same_ids(
    tokenizer: PatchKMeans, options: dict[str, Any]
) -> None:
    made = Pipeline(tokenizer, generator(), CLASSES, (SIZE, SIZE))
    settings = {"classes": [1, 2], "guidance": 2.0, "size": (16, 32)}
    eager = ids(made(**settings))
    assert made.compile(**options) is made
    assert torch.equal(ids(made(**settings)), eager)
