"""FlowAR's mechanism: scales, causality, memory, guidance, and that it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import pyramid
from limner.core.memory import NoMemory
from limner.core.noise import ReplayedNoise, SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options, Row
from limner.core.slots import batch
from limner.core.tokens import Tokens, empty, from_values
from limner.decoding import generate
from limner.heads.flow import FlowConfig, by_area
from limner.heads.guidance import StepRamp
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import flowar as official
from limner.layers.flow_transformer import FlowTransformerConfig
from limner.models.flowar import FlowAR, FlowARConfig
from limner.orders import teacher_slots
from limner.tokenizers.latent_pyramids import ResampledLatents, as_tokens
from tests.models.together import drawn_together_and_alone

SCALES, WIDTH = (1, 2, 4), 3
LAYOUT = pyramid(tuple((side, side) for side in SCALES), kind="values")
CONFIG = FlowARConfig(
    16,
    2,
    2,
    heads=2,
    velocity=FlowTransformerConfig(16, 1, 8),
    flow=FlowConfig(4, times="flowar", guided_from=0.9),
    token_width=WIDTH,
    classes=5,
    scales=SCALES,
)


def build(config: FlowARConfig = CONFIG) -> FlowAR:
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = FlowAR(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.canvas = ResampledLatents()
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["attn", "cross"])
def model(request: pytest.FixtureRequest) -> FlowAR:
    return build(replace(CONFIG, velocity=replace(CONFIG.velocity, cross=request.param)))


def label(*numbers: int) -> dict[str, Tensor]:
    return {"label": torch.tensor(numbers)}


def given(rows: int, seed: int = 0) -> Tokens:
    rng = torch.Generator().manual_seed(seed)
    return as_tokens(torch.randn(rows, WIDTH, 4, 4, generator=rng, dtype=torch.float64), LAYOUT)


def begin(
    model: FlowAR, seed: int, options: Options | None = None, tokens: Tokens | None = None
) -> list[Row]:
    tokens = tokens or empty(LAYOUT, width=WIDTH, dtype=torch.float64)
    return model.begin(tokens, label(seed % 5), options or Options(), SeededNoise(seed))


def drawn(rows: Sequence[Row]) -> Tensor:
    return torch.cat([row.tokens.values for row in rows if row.lead is None])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("flowar-small", 171_718_072),
        ("flowar-large", 586_862_912),
        ("flowar-huge", 1_913_316_880),
    ],
)
def test_parameter_counts_are_the_published_ones(variant: str, count: int) -> None:
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert parameter_count(network) == entry.published == count


def test_a_scale_is_told_by_coarser_scales_and_the_class_alone(model: FlowAR) -> None:
    tokens, changed = given(1), given(1)
    assert changed.values is not None
    changed.values[:, 2] += 1.0  # of the second scale
    before, after = model.teach(tokens, label(1)), model.teach(changed, label(1))
    assert torch.equal(before[:, :5], after[:, :5])
    assert bool(((before - after)[:, 5:].abs().amax(-1) > 1e-9).all())  # within a scale, both ways
    assert torch.equal(model.teach(given(1, seed=9), label(1))[:, 0], before[:, 0])
    assert not torch.allclose(model.teach(tokens, label(2))[:, 0], before[:, 0])


def test_inside_a_scale_places_see_each_other_both_ways(model: FlowAR) -> None:
    """One input alone is changed: what a scale reads of a coarser token spreads over all of it."""
    fed = torch.randn(1, 21, WIDTH, generator=torch.Generator().manual_seed(2)).double()
    outputs = []
    for added in (0.0, 1.0):
        fed[:, 12] += added  # of the last scale, which begins at 5
        slots = batch([teacher_slots(LAYOUT)])
        packed = Packed(empty(LAYOUT, width=WIDTH), slots, [label(1)], fed=fed)
        outputs.append(model(packed, NoMemory()))
    moved = (outputs[1] - outputs[0]).abs().amax(-1)[0]
    assert torch.equal(outputs[0][:, :5], outputs[1][:, :5])
    assert bool((moved[5:] > 1e-9).all())


def test_drawing_with_memory_gives_the_outputs_of_one_pass(model: FlowAR) -> None:
    seen: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    rows = begin(model, 3, Options(StepRamp(2.0)))
    generate(model, rows)
    hook.remove()
    cached = torch.cat(seen, dim=1)
    known = from_values(LAYOUT, drawn(rows))
    whole = torch.cat([model.teach(known, label(3)), model.teach(known, label(5))])
    torch.testing.assert_close(cached, whole, rtol=1e-9, atol=1e-9)


def test_a_constant_latent_feeds_all_scales_alike() -> None:
    latents = torch.tensor([1.0, -2.0, 0.5]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    tokens = as_tokens(latents, LAYOUT)
    fed, targets = ResampledLatents().teach(tokens)
    assert fed is not None and targets is tokens and bool((fed[:, 0] == 0).all())
    torch.testing.assert_close(fed[0, 1:], latents[0, :, 0, 0].expand(20, 3))


def test_null_rows_need_no_noise_and_the_first_scale_is_not_guided(model: FlowAR) -> None:
    guided = begin(model, 0, Options(StepRamp(4.0)))
    assert len(guided) == 2
    guided[1].noise = ReplayedNoise({})  # raises if it is asked for any
    generate(model, guided)
    plain = begin(model, 0)
    generate(model, plain)
    torch.testing.assert_close(drawn(guided)[:, 0], drawn(plain)[:, 0])
    assert not torch.allclose(drawn(guided)[:, 1:], drawn(plain)[:, 1:])


def test_rows_at_different_scales_draw_what_they_draw_alone(model: FlowAR) -> None:
    options = (Options(StepRamp(2.0)), Options(), Options(StepRamp(1.0), temperature=0.8))
    pair = drawn_together_and_alone(
        model, lambda seed, option: begin(model, seed, option), drawn, options
    )
    torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)


def test_given_tokens_are_held(model: FlowAR) -> None:
    tokens = given(1)
    assert tokens.values is not None
    wanted = tokens.values.clone()
    tokens.known[0, 7:9] = False
    rows = begin(model, 1, tokens=tokens)
    generate(model, rows)
    same = (drawn(rows) == wanted).all(-1)[0]
    assert not same[7:9].any() and bool(same[:7].all()) and bool(same[9:].all())


def test_the_loss_weighs_scales_by_area_and_is_repeatable(model: FlowAR) -> None:
    errors = torch.rand(2, 21)
    parts = [errors[:, LAYOUT.span(index)].mean() for index in range(3)]
    wanted = sum(part * side**2 / 16 for part, side in zip(parts, SCALES, strict=True))
    torch.testing.assert_close(by_area(errors, LAYOUT), wanted)
    first = model.loss(given(2), label(0, 1))
    assert torch.equal(first.total, model.loss(given(2), label(0, 1)).total)
    other = model.loss(given(2), label(0, 1), torch.Generator().manual_seed(3))
    assert other.total != first.total and set(first.parts) == {"mse", "still"}


def test_classes_are_dropped_in_training() -> None:
    model = build(replace(CONFIG, condition_dropout=0.999))
    random = [
        model.loss(given(2), label(kind, kind), torch.Generator().manual_seed(0)).total
        for kind in (0, 1)
    ]
    assert torch.equal(*random)


def test_official_names_go_both_ways() -> None:
    for cross in (False, True):
        model = build(replace(CONFIG, velocity=replace(CONFIG.velocity, cross=cross)))
        state = official.TABLE.to_official(model.state_dict())
        assert detect(state) is official.FLOWAR
        assert ("flownet.res_blocks.0.crossattn.q.weight" in state) == cross
        with pytest.raises(ConfigError, match="give heads"):
            official.FLOWAR.config(state)
        fields = {"heads": 2, "velocity.head_width": 8, "velocity.span": 16}
        config = official.FLOWAR.config(state, fields)
        assert (config.scales, config.classes, config.encoder_depth) == (SCALES, 5, 2)
        again = official.FLOWAR.build(config, state).state_dict()
        assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_wrong_input_is_named() -> None:
    model = build()
    other = pyramid(((1, 1), (4, 4)), kind="values")
    with pytest.raises(ConfigError, match="scales"):
        model.begin(empty(other, width=WIDTH), label(0), Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match="continuous vectors"):
        model.begin(empty(LAYOUT, codes=1), label(0), Options(), SeededNoise(0))
    for field, value in (("width", 18), ("dropout", 1.0), ("scales", ()), ("token_width", 0)):
        with pytest.raises(ConfigError, match=field):
            replace(CONFIG, **{field: value})


@pytest.mark.slow
def test_it_learns_maps_of_one_colour() -> None:
    """The class tells the sign of a channel; another channel is random but the same everywhere."""
    torch.manual_seed(0)
    config = replace(CONFIG, width=32, token_width=2, classes=2, dropout=0.0, attention_dropout=0.0)
    config = replace(config, velocity=FlowTransformerConfig(32, 2, 8), flow=FlowConfig(16))
    model, rng = FlowAR(config), torch.Generator().manual_seed(0)
    model.canvas = ResampledLatents()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(300):
        kind, light = torch.randint(2, (2, 32), generator=rng)
        colour = torch.stack([2.0 * kind - 1, 2.0 * light - 1], dim=-1)
        maps = colour[..., None, None] + 0.1 * torch.randn(32, 2, 4, 4, generator=rng)
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 300)
        loss = model.loss(as_tokens(maps, LAYOUT), {"label": kind}, rng)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    model.eval()
    measured = model.loss(as_tokens(maps, LAYOUT), {"label": kind})
    assert measured.parts["mse"] < 0.7 * measured.parts["still"]
    rows = []
    for seed in range(32):
        blank_tokens = empty(LAYOUT, width=2)
        rows += model.begin(blank_tokens, label(seed % 2), Options(), SeededNoise(seed))
    generate(model, rows)
    values = drawn(rows)
    fine, coarse = values[:, 5:].mean(1), values[:, 0]
    assert ((fine[:, 0] > 0) == (torch.arange(32) % 2 == 1)).float().mean() > 0.9
    assert torch.corrcoef(torch.stack([fine[:, 1], coarse[:, 1]]))[0, 1] > 0.8
    assert 0.2 < (fine[:, 1] > 0).float().mean() < 0.8
