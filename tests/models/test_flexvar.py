"""FlexVAR: any list of scales, any size, and no scale but the last one drawn is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import Layout, pyramid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options, Row
from limner.core.slots import batch
from limner.core.tokens import empty, from_ids
from limner.decoding import generate
from limner.heads.categorical import CategoricalHead
from limner.heads.guidance import ScaleRamp, schedule
from limner.heads.stages import LikeliestElsewhere, UnlikelyCodes
from limner.hub.convert import detect
from limner.hub.official import var as official_var
from limner.hub.official.flexvar import TABLE, TRANSFORMER
from limner.models.flexvar import FlexVAR, FlexVARConfig
from limner.models.var import VAR, VARConfig
from limner.orders import scales, teacher_slots
from limner.orders.scale_lists import random_list
from limner.pipeline import Pipeline
from limner.tokenizers.latest_codes import LatestCodes
from limner.tokenizers.patch_scales import PatchScales, PatchScalesConfig
from limner.tokenizers.quantizers.codebook import Codebook
from limner.verify.drawing import draw, filtered

SIZES = FlexVARConfig(
    width=24,
    depth=2,
    heads=3,
    codebook_size=11,
    latent=4,
    classes=3,
    usual=(1, 2, 4),
    mixed=((3, 3, 1),),
    table=6,
    gate_gain=1.0,
)
EVERY = pyramid(((1, 1), (2, 2), (3, 3), (4, 4)))
OBLONG = pyramid(((1, 1), (1, 2), (2, 3), (2, 3), (5, 4)))
LABEL = {"label": torch.tensor([1])}


def small(**changes: Any) -> FlexVAR:
    torch.manual_seed(0)
    model = FlexVAR(replace(SIZES, **changes)).double().eval()
    torch.nn.init.normal_(model.output.weight, generator=torch.Generator().manual_seed(1))
    model.canvas = LatestCodes(Codebook(11, 4, normalize=True).double())
    return model


def teacher_logits(model: FlexVAR, layout: Layout, ids: Tensor) -> Tensor:
    tokens = from_ids(layout, ids)
    fed, _ = model.canvas.teach(tokens)
    slots = batch([teacher_slots(layout)] * len(ids))
    with torch.no_grad():
        return model(Packed(tokens, slots, [LABEL], fed=fed), NoMemory())


def random_ids(layout: Layout) -> Tensor:
    return torch.randint(11, (1, len(layout)), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("flexvar-d16", 315_561_936),
        ("flexvar-d20", 607_513_952),
        ("flexvar-d24", 1_041_314_576),
    ],
)
def test_published_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        model = MODELS.create(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert MODELS.get_variant(name).published == count


@pytest.mark.parametrize("layout", [EVERY, OBLONG])
def test_cached_steps_equal_one_masked_pass(layout: Layout) -> None:
    model = small(sampled=tuple(range(9)))
    run = draw(model, layout, LABEL, Options(), [SeededNoise(3)])
    expected = teacher_logits(model, layout, run.ids[..., 0])
    torch.testing.assert_close(run.logits, expected, rtol=0, atol=1e-12)


def test_the_beginning_of_a_list_does_not_know_its_end() -> None:
    model = small()
    longer = pyramid(((1, 1), (2, 2), (3, 3), (5, 5)))
    shorter = pyramid(((1, 1), (2, 2), (3, 3)))
    greedy = Options(temperature=0.0)
    whole, part = (draw(model, layout, LABEL, greedy) for layout in (longer, shorter))
    assert torch.equal(whole.ids[:, : len(shorter)], part.ids)
    torch.testing.assert_close(whole.logits[:, : len(shorter)], part.logits, rtol=0, atol=1e-12)


def test_what_is_read_is_the_scale_before_alone_resized_bicubically() -> None:
    model, ids = small(), random_ids(EVERY)
    fed, _ = model.canvas.teach(from_ids(EVERY, ids))
    assert fed is not None
    assert not fed[:, :1].any()
    codes = model.canvas.codebook.codes[ids[0, 1:5]].T.reshape(1, 4, 2, 2)  # type: ignore[attr-defined]
    wanted = torch.nn.functional.interpolate(codes, (3, 3), mode="bicubic", align_corners=False)
    assert torch.equal(fed[:, EVERY.span(2)], wanted.flatten(2).transpose(1, 2))
    changed = ids.clone()
    changed[:, 0] = (ids[:, 0] + 1) % 11
    again, _ = model.canvas.teach(from_ids(EVERY, changed))
    assert again is not None
    moved = (again != fed).any(-1)[0]
    assert moved.tolist() == (EVERY.segment_of() == 1).tolist()


def test_places_follow_the_maps_whatever_the_list() -> None:
    model = small()
    tokens = from_ids(EVERY, random_ids(EVERY))
    packed = Packed(tokens, batch([teacher_slots(EVERY)]), [LABEL])
    found = model.positions(packed)
    for index, segment in enumerate(EVERY.segments):
        alone = model.table(segment.size[1:])
        torch.testing.assert_close(found[0, EVERY.span(index)], alone)


def test_training_takes_lists_out_of_all_scales() -> None:
    model = small(condition_dropout=0.0)
    tokens = from_ids(EVERY, random_ids(EVERY))
    usual = model.chosen(tokens, (1, 2, 4))
    assert [segment.size[1:] for segment in usual.layout.segments] == [(1, 1), (2, 2), (4, 4)]
    with torch.no_grad():
        assert model.loss(tokens, LABEL).total == VAR.loss(model, usual, LABEL).total
        for seed in range(5):
            drawn = random_list((1, 2, 4), ((3, 3, 1),), torch.Generator().manual_seed(seed))
            wanted = VAR.loss(model, model.chosen(tokens, drawn), LABEL).total
            found = model.loss(tokens, LABEL, torch.Generator().manual_seed(seed)).total
            assert found == wanted
    with pytest.raises(ConfigError, match=r"no scale of 3x3.*1x1, 2x2, 4x4"):
        model.chosen(usual, (1, 2, 3, 4))


def test_guidance_follows_the_released_ramp() -> None:
    for count, trained in ((5, 16), (12, 16), (6, 3), (1, 16)):
        sides = [1 + index // 2 for index in range(count)]
        layout = pyramid(tuple((side, side) for side in sides))
        row = Row(empty(layout, codes=1), scales(layout), SeededNoise(0), LABEL)
        for step in scales(layout).steps:
            share = step.index / max(1, min(count - 1, 9)) if sides[step.index] <= trained else 1
            found = ScaleRamp(2.0, trained).scale(row, step)
            assert (found or 1.0) == pytest.approx(1 + 2 * share)
    assert not ScaleRamp(0.0).active
    assert schedule("scale-ramp", 3.5) == ScaleRamp(2.5)


def test_maps_of_unlisted_sides_take_the_likeliest_codes() -> None:
    model = small(sampled=(1, 2, 4))
    layout = pyramid(((1, 1), (2, 2), (3, 3), (4, 4), (5, 5)))
    run = draw(model, layout, LABEL, Options(), [SeededNoise(5)])
    likeliest = run.logits.argmax(-1) == run.ids[..., 0]
    by_scale = [bool(likeliest[:, layout.span(k)].all()) for k in range(5)]
    assert by_scale[2] and by_scale[4]  # unlisted; larger than any in training
    assert not all(by_scale)
    stage = LikeliestElsewhere((1,), 16)
    logits = torch.randn(4, 11, generator=torch.Generator().manual_seed(0))
    left = filtered(logits, Options(), CategoricalHead((stage,)))
    assert (left > -torch.inf).sum(-1).tolist() == [1] * 4


def test_unlikely_codes_are_not_drawn() -> None:
    model, codes = small(), torch.tensor([0, 3, 4, 5, 8])
    guided = Options(guidance=ScaleRamp(1.5), processors=(UnlikelyCodes(codes),))
    run = draw(model, EVERY, LABEL, guided, [SeededNoise(1)])
    assert not torch.isin(run.ids, codes).any()
    assert (run.logits[..., codes] == -100).all()


def test_official_names_are_found_again() -> None:
    model = small()
    state = TABLE.to_official(model.state_dict())
    assert state["pos_1LC"].shape == (1, 24, 6, 6) and state["pos_start"].shape == (1, 1, 24)
    state["attn_bias_for_masking"] = torch.zeros(1, 1, 3, 3)
    assert detect(state) is TRANSFORMER
    config = TRANSFORMER.config(state, {"usual": [1, 2, 4], "mixed": [[3, 3, 1]]})
    back = TRANSFORMER.build(config, state).double()
    assert config.table == 6 and config.heads == 3
    layout, ids = OBLONG, random_ids(OBLONG)
    back.canvas = model.canvas
    assert torch.equal(teacher_logits(model, layout, ids), teacher_logits(back, layout, ids))
    plain = VAR(VARConfig(24, 1, 3, 11, latent=4, classes=3, scales=(1, 2)))
    other = official_var.TRANSFORMER_TABLE.to_official(plain.state_dict())
    assert detect(other) is official_var.TRANSFORMER


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("usual", (1,)),
        ("usual", (2, 1)),
        ("mixed", ((2, 3, 1),)),
        ("mixed", ((3, 3, 2),)),
        ("table", 0),
        ("heads", 7),
    ],
)
def test_bad_configurations_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match="width" if field == "heads" else field):
        replace(SIZES, **{field: value})


def test_configurations_come_from_lists() -> None:
    assert from_dict(FlexVARConfig, to_dict(SIZES)) == SIZES


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    tokenizer = PatchScales(PatchScalesConfig(2, 4, codebook_size=11, scales=(1, 2, 3, 4)))
    rng = torch.Generator().manual_seed(0)
    tokenizer.fit(torch.rand(40, 3, 8, 8, generator=rng) * 2 - 1, rng)
    torch.manual_seed(0)
    return Pipeline(tokenizer, FlexVAR(SIZES), ("a", "b", "c"), (8, 8))


@pytest.mark.parametrize("size", [(8, 8), (6, 6), (4, 10), (14, 8), (24, 24)])
def test_pictures_of_any_size_and_shape(pipeline: Pipeline, size: tuple[int, int]) -> None:
    result = pipeline(["a", 1], size=size, guidance=2.0)
    assert result.pictures.shape == (2, 3, *size) and result.tokens.known.all()
    assert result.pictures.isfinite().all()


def test_any_number_of_steps(pipeline: Pipeline) -> None:
    for steps in (2, 3, 4):
        drawn = [preview.total for preview in pipeline.stream(["a"], steps=steps)]
        assert drawn == [steps] * steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (7, 8)}, "multiples of 2 pixels"),
        ({"size": (26, 8)}, "at most 12 tokens a side"),
        ({"steps": 5}, "steps must be from 2 to 4 for 4x4 tokens"),
        ({"steps": 1}, "steps must be from 2"),
    ],
)
def test_impossible_scales_are_refused(
    pipeline: Pipeline, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(["a"], **settings)


def test_given_tokens_of_any_list_are_held(pipeline: Pipeline) -> None:
    layout = pipeline.tokenizer.layout(12, 12, scales=[1, 3, 6])
    picture = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(4)) * 2 - 1
    given = pipeline.tokenizer.encode(picture, layout=layout)
    held = torch.rand(given.known.shape, generator=torch.Generator().manual_seed(5)) < 0.5
    given.known = held
    result = pipeline.draw_from(given, ["b"], size=(12, 12))
    assert result.tokens.ids is not None and given.ids is not None
    assert torch.equal(result.tokens.ids[held], given.ids[held])
    assert result.tokens.known.all()


@pytest.mark.parametrize("size", [(8, 8), (14, 16)])
def test_pictures_are_edited_at_the_scales_that_would_be_drawn(
    pipeline: Pipeline, size: tuple[int, int]
) -> None:
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(4)) * 2 - 1
    wanted = pipeline.generator.layout(pipeline.tokenizer, *size, steps=4)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[:, : size[1] // 2] = True
    result = pipeline.edit(picture, mask, classes=["b"], steps=4)
    assert result.tokens.layout == wanted
    last = wanted.span(3)
    given = pipeline.tokenizer.encode_at(picture[None], wanted)
    assert result.tokens.ids is not None and given.ids is not None
    columns = wanted.coordinates()[last, 3] >= size[1] // 4
    assert torch.equal(result.tokens.ids[:, last][:, columns], given.ids[:, last][:, columns])
    refined = pipeline.refine(picture, 2, classes=["b"], steps=4)
    assert refined.tokens.ids is not None
    kept = slice(0, wanted.span(2).start)
    assert torch.equal(refined.tokens.ids[:, kept], given.ids[:, kept])


def test_training_learns_under_random_lists() -> None:
    """Every scale shows the class; lists of all kinds learn it."""
    model = small(condition_dropout=0.0).float()
    model.canvas.codebook.float()  # type: ignore[attr-defined]
    rng = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        label = torch.randint(3, (16,), generator=rng)
        ids = (label[:, None] * 3).repeat(1, len(EVERY))
        loss = model.loss(from_ids(EVERY, ids), {"label": label}, rng).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_rows_of_different_sizes_are_drawn_together() -> None:
    model = small()
    layouts = (EVERY, OBLONG)
    rows = [
        model.begin(empty(layout, codes=1), LABEL, Options(temperature=0.0), SeededNoise(0))[0]
        for layout in layouts
    ]
    alone = [draw(model, layout, LABEL, Options(temperature=0.0)).ids for layout in layouts]
    memory = model.memory(rows)
    assert sum(buffer.shape[2] for buffer in memory.keys[:1]) == max(  # type: ignore[attr-defined]
        len(layout) - len(layout.segments[-1]) for layout in layouts
    )
    for row, expected in zip(rows, alone, strict=True):
        (drawn,) = generate(model, [row])
        assert torch.equal(drawn.tokens.ids, expected)  # type: ignore[arg-type]
