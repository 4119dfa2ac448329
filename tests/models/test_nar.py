"""NAR: diagonals in one pass each, heads that are averaged, and that drawing is what is taught."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limner.conditions.text import left_padded
from limner.core.config import from_dict
from limner.core.errors import ConfigError
from limner.core.layout import Layout, grid
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.tokens import Tokens, empty, from_ids
from limner.decoding import generate
from limner.heads.guidance import Constant, UntilDrawn
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import nar as official
from limner.models.nar import NAR, NARConfig
from tests.models.together import drawn_together_and_alone

CODES = 11
PICTURE, CLIP = grid(3, 4), grid(2, 3, 2)
KINDS = ("class", "text", "clip", "fixed")
OF_EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def small(kind: str = "class", **changes: Any) -> NAR:
    """A tiny float64 NAR whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "width": 16, "depth": 2, "heads": 2, "codebook_size": CODES, "classes": 3,
        "condition": "text" if kind == "text" else "class", "text_length": 5, "text_width": 6,
        "multiple_of": 8,
    }  # fmt: skip
    if kind in ("clip", "fixed"):
        places = "learned" if kind == "clip" else "sines"
        values |= {"deeper": (1, 1), "places": places, "tokens": len(CLIP)}
    model = NAR(from_dict(NARConfig, values | changes)).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def layout_of(kind: str) -> Layout:
    return CLIP if kind in ("clip", "fixed") else PICTURE


def asked(kind: str, count: int = 3) -> Condition:
    """Conditions that differ from row to row; texts also in how many tokens they have."""
    if kind != "text":
        return {"label": torch.arange(count) % 3}
    features = torch.randn(count, 5, 6, generator=torch.Generator().manual_seed(1))
    lengths = 1 + torch.arange(count) * 2 % 5
    return left_padded(features.double(), torch.arange(5) < lengths.unsqueeze(1))


def given(layout: Layout, rows: int = 1, seed: int = 0) -> Tokens:
    rng = torch.Generator().manual_seed(seed)
    return from_ids(layout, torch.randint(CODES, (rows, len(layout)), generator=rng))


def begin(model: NAR, kind: str, row: int, options: Options) -> list[Row]:
    condition = {name: value[row : row + 1] for name, value in asked(kind).items()}
    return model.begin(empty(layout_of(kind), codes=1), condition, options, SeededNoise(row))


def ids(rows: list[Row]) -> Tensor:
    return torch.cat([row.tokens.ids for row in rows if row.lead is None])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("nar-b", "130.6M"), ("nar-m", "295.5M"), ("nar-l", "372.5M"), ("nar-xl", "816.0M"),
        ("nar-t2i-xl", "819.0M"), ("nar-xxl", "1464.5M"), ("nar-clip-s", "37.8M"),
        ("nar-clip-b", "125.1M"), ("nar-clip-l", "368.7M"), ("nar-clip-lp", "693.6M"),
        ("nar-clip-xl", "815.5M"),
    ],
)  # fmt: skip
def test_parameter_counts_are_those_of_the_official_code(variant: str, count: str) -> None:
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert f"{parameter_count(network) / 1e6:.1f}M" == count


@OF_EVERY_KIND
def test_what_is_drawn_step_by_step_is_what_is_taught(kind: str) -> None:
    model, layout = small(kind), layout_of(kind)
    rows = [row for index in range(3) for row in begin(model, kind, index, Options(temperature=0))]
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    generate(model, rows)
    assert len(passes) == sum(layout.extent) - 2  # not one a code
    drawn = from_ids(layout, ids(rows))
    assert torch.equal(model.teach(drawn, asked(kind)).argmax(-1), ids(rows)[..., 0])


@OF_EVERY_KIND
def test_memory_gives_the_logits_of_one_pass(kind: str) -> None:
    model, layout = small(kind), layout_of(kind)
    seen: dict[int, Tensor] = {}

    def watch(logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        seen.update(zip(tokens.tolist(), logits, strict=True))
        return logits

    rows = begin(model, kind, 1, Options(processors=(watch,)))
    generate(model, rows)
    condition = {name: value[1:2] for name, value in asked(kind).items()}
    whole = model.teach(from_ids(layout, ids(rows)), condition)[0]
    cached = torch.stack([seen[token] for token in range(len(layout))])
    torch.testing.assert_close(cached, whole, rtol=1e-9, atol=1e-9)


def test_rows_at_different_steps_draw_what_they_draw_alone() -> None:
    model = small("text")
    options = (Options(Constant(2.0)), Options(), Options(Constant(1.5), temperature=0.7))
    pair = drawn_together_and_alone(
        model, lambda seed, option: begin(model, "text", seed, option), ids, options
    )
    assert torch.equal(*pair)


@pytest.mark.parametrize("kind", ["class", "clip"])
def test_a_code_tells_only_codes_further_from_the_first(kind: str) -> None:
    model, layout = small(kind), layout_of(kind)
    distance = layout.coordinates()[:, 1:].sum(1)
    before = model.teach(given(layout), asked(kind, 1))[0]
    for token in range(len(layout)):
        changed = given(layout)
        assert changed.ids is not None
        changed.ids[0, token] = (changed.ids[0, token] + 1) % CODES
        moved = (model.teach(changed, asked(kind, 1))[0] - before).abs().amax(-1)
        assert bool((moved[distance <= distance[token]] == 0).all())
        assert token == len(layout) - 1 or bool((moved[distance == distance[token] + 1] > 0).all())


def test_heads_are_averaged_where_both_tell() -> None:
    model = small()
    before = model.teach(given(PICTURE), asked("class", 1))[0]
    row, column = PICTURE.coordinates()[:, 2:].unbind(1)
    model.further_outputs[0].weight.zero_()
    right = model.teach(given(PICTURE), asked("class", 1))[0]
    model.output.weight.zero_()
    model.further_outputs[0].weight.copy_(small().further_outputs[0].weight)
    below = model.teach(given(PICTURE), asked("class", 1))[0]
    first = torch.arange(len(PICTURE)) == 0
    assert torch.equal(right[(row == 0) & ~first], before[(row == 0) & ~first])
    assert bool((right[(column == 0) & ~first] == 0).all())
    assert bool((below[(row == 0) & ~first] == 0).all())
    # each is half of the mean there, as zeros were averaged in
    torch.testing.assert_close(right + below, before)


def test_the_loss_is_the_cross_entropy_of_the_mean_logits() -> None:
    model, tokens = small("text"), given(PICTURE, 3)
    logits = model.teach(tokens, asked("text"))
    assert tokens.ids is not None
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.ids.flatten())
    torch.testing.assert_close(model.loss(tokens, asked("text")).total, wanted)


def test_all_heads_learn() -> None:
    model = small("clip").requires_grad_(True)
    model.loss(given(CLIP, 3), asked("clip")).total.backward()  # type: ignore[no-untyped-call]
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_guidance_ends_once_more_tokens_are_drawn() -> None:
    model = small()
    results = {
        limit: begin(model, "class", 0, Options(UntilDrawn(3.0, limit), temperature=0))
        for limit in (None, 0, 3)
    }
    plain = begin(model, "class", 0, Options(temperature=0))
    seen: list[float] = []
    for rows in (*results.values(), plain):
        generate(model, rows)
    rows = begin(model, "class", 0, Options(UntilDrawn(3.0, 3)))
    guidance = rows[0].options.guidance

    def watch(events: list[Any]) -> None:
        step = rows[0].order.next(rows[0])
        if step is not None:
            seen.append(guidance.scale(rows[0], step) or 1.0)

    generate(model, rows, [watch])
    assert seen == [3.0, 3.0, 1.0, 1.0, 1.0]  # 1, 3, 6, ... of 12 are drawn before
    assert not torch.equal(ids(results[None]), ids(plain))
    assert not UntilDrawn(1.0, 3).active


def test_codes_that_are_given_are_held() -> None:
    model, tokens = small(), given(PICTURE)
    assert tokens.ids is not None
    wanted = tokens.ids.clone()
    tokens.known[0, 5:7] = False
    rows = model.begin(tokens, asked("class", 1), Options(), SeededNoise(5))
    generate(model, rows)
    same = (ids(rows) == wanted)[0, :, 0]
    assert bool(same[:5].all()) and bool(same[7:].all())


def test_start_from_codes_sets_all_heads() -> None:
    model = small("clip")
    model.start_from_codes(torch.randn(CODES, 4), torch.Generator().manual_seed(0))
    for output in model.further_outputs:
        assert torch.equal(output.weight, model.output.weight)


@pytest.mark.parametrize("kind", ["class", "text", "clip"])
def test_official_names_go_both_ways(kind: str) -> None:
    model = small(kind)
    converter = official.CLIPS if kind == "clip" else official.PICTURES
    state = converter.table(model.config).to_official(model.state_dict())
    assert detect(state) is converter
    config = converter.config(state, {"heads": 2})
    assert (config.depth, config.deeper, config.places) == (
        model.config.depth, model.config.deeper, model.config.places,
    )  # fmt: skip
    again = converter.build(config, state).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_heads_of_published_clips_are_known_by_width() -> None:
    config = MODELS.get_variant("nar-clip-s").config
    shapes = {"abs_pe": torch.empty(1, 1025, 384, device="meta")}
    blank_state = blank(MODELS.get_family("nar"), config).state_dict()
    state = official.CLIPS.table(config).to_official(blank_state)
    assert official.CLIPS.config(state | shapes) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"deeper": ()}, "deeper"),
        ({"deeper": (1, 1, 1)}, "deeper"),
        ({"deeper": (-1,)}, "deeper"),
        ({"places": "none"}, "places"),
        ({"tokens": 0}, "tokens=0"),
        ({"width": 20}, "width=20 .* multiple of 4 x heads"),
    ],
)
def test_wrong_configurations_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**wrong)


def test_wrong_layouts_are_named() -> None:
    with pytest.raises(ConfigError, match=r"frames=2 .* draws pictures"):
        small().order(empty(CLIP, codes=1), Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match=r"tokens=24 .* 12, as this model's places"):
        small("clip").order(empty(grid(4, 3, 2), codes=1), Options(), SeededNoise(0))
    assert small("clip", width=18).config.head_unit == 1  # a table of places turns nothing
