"""xAR: what an X sees, clean context in sampling, noisy context in training, and other X."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import grid
from limner.core.memory import NoMemory
from limner.core.noise import ReplayedNoise, SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options, Row
from limner.core.slots import Slots, batch, concatenate
from limner.core.tokens import Tokens, empty, from_values
from limner.decoding import generate
from limner.heads.flow import FlowConfig
from limner.heads.guidance import StepRamp
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import xar as official
from limner.layers.vision_transformer import StackConfig
from limner.models.xar import XAR, XARConfig
from limner.orders.blocks import NextX, draft_slots
from tests.models.together import drawn_together_and_alone

LAYOUT, WIDTH = grid(4, 4, kind="values"), 3
CONFIG = XARConfig(
    StackConfig(16, 2, 2),
    StackConfig(16, 1, 4),
    NextX("cell", 2),
    FlowConfig(4, solver="euler-maruyama", times="late"),
    tokens=16,
    token_width=WIDTH,
    classes=5,
)
KINDS = (NextX("cell", 2), NextX("subsample", 2), NextX("rows", 1), NextX("picture"))


def build(config: XARConfig = CONFIG) -> XAR:
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = XAR(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def model() -> XAR:
    return build()


def label(*numbers: int) -> dict[str, Tensor]:
    return {"label": torch.tensor(numbers)}


def given(rows: int, seed: int = 0) -> Tokens:
    rng = torch.Generator().manual_seed(seed)
    return from_values(LAYOUT, torch.randn(rows, 16, WIDTH, generator=rng, dtype=torch.float64))


def begin(
    model: XAR, seed: int, options: Options | None = None, tokens: Tokens | None = None
) -> list[Row]:
    tokens = tokens or empty(LAYOUT, width=WIDTH, dtype=torch.float64)
    return model.begin(tokens, label(seed % 5), options or Options(), SeededNoise(seed))


def drawn(rows: Sequence[Row]) -> Tensor:
    return torch.cat([row.tokens.values for row in rows if row.lead is None])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variant", "millions"), [("xar-b", 172.6), ("xar-l", 608.4), ("xar-h", 1186.0)]
)
def test_parameter_counts_are_those_of_the_official_code(variant: str, millions: float) -> None:
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert round(parameter_count(network) / 1e6, 1) == millions == float(entry.published[:-1])  # type: ignore[index]


def test_the_published_x_is_a_quarter_of_the_picture() -> None:
    config = MODELS.get_variant("xar-b").config
    order = config.x.order(grid(16, 16, kind="values"))
    assert [len(step.draw) for step in order.steps] == [64] * 4


@pytest.mark.parametrize("x", KINDS)
def test_velocities_follow_from_the_x_itself_and_earlier_ones(x: NextX) -> None:
    model = build(replace(CONFIG, x=x))
    order = x.order(LAYOUT)
    time, noise = torch.full((1, len(order)), 0.5), given(1, seed=1).values
    assert noise is not None
    before = model.teach(given(1), label(1), time, noise)[0]
    for token in (0, 5, 15):
        changed = given(1)
        assert changed.values is not None
        changed.values[0, token] += 1
        moved = (model.teach(changed, label(1), time, noise)[0] - before).abs().amax(-1)
        assert torch.equal(moved > 1e-12, order.step >= order.step[token])
        assert bool((moved[order.step < order.step[token]] == 0).all())  # to the bit


def test_every_x_is_told_its_own_time(model: XAR) -> None:
    noise = given(1, seed=1).values
    assert noise is not None
    times = torch.tensor([[0.2, 0.4, 0.68, 0.9]])
    noisy, told = model.noised(given(1), times, noise)
    assert told[0, model.config.x.order(LAYOUT).step == 2].tolist() == [680.0] * 4  # in float32
    values = given(1).values
    assert values is not None
    torch.testing.assert_close(
        noisy[0, 0], 0.8 * values[0, 0] + 0.2 * noise[0, 0], rtol=1e-6, atol=1e-6
    )
    before = model.teach(given(1), label(1), times, torch.zeros_like(noise))
    times[0, 1] = 0.3
    moved = (model.teach(given(1), label(1), times, torch.zeros_like(noise)) - before).abs()
    assert torch.equal(moved[0].amax(-1) > 0, model.config.x.order(LAYOUT).step >= 1)


def recomputed(model: XAR, seed: int, steps: int) -> Tensor:
    """Draw all X by Euler steps, reading the whole clean prefix anew in every pass."""
    order = model.config.x.order(LAYOUT)
    tokens = empty(LAYOUT, width=WIDTH, dtype=torch.float64)
    assert tokens.values is not None
    for index, step in enumerate(order.steps):
        clean = [draft_slots(order, k) for k in range(index)]
        prefix = [Slots.of(s.place[s.copy == 1], s.since[s.copy == 1], s.speaks[:0]) for s in clean]
        own = draft_slots(order, index).scratch()
        slots = batch([concatenate([*prefix, own])])
        x = SeededNoise(seed).normal("start", step.draw, 0, (WIDTH,))
        for k in range(steps):
            noisy, level = torch.zeros_like(tokens.values), torch.zeros(1, 16)
            noisy[0, step.draw] = x
            level[0, step.draw] = float(int(1000 * (1 - k / steps)))
            packed = Packed(tokens, slots, [label(seed % 5)], noisy=noisy, level=level)
            x = x - model(packed, NoMemory())[0] / steps
        tokens.values[0, step.draw] = x
    return tokens.values


@pytest.mark.parametrize("x", KINDS)
def test_memory_gives_what_reading_everything_anew_gives(x: NextX) -> None:
    model = build(replace(CONFIG, x=x, flow=FlowConfig(4)))
    rows = begin(model, 3)
    generate(model, rows)
    torch.testing.assert_close(drawn(rows), recomputed(model, 3, 4), rtol=1e-9, atol=1e-9)


def test_a_step_takes_as_many_passes_as_the_solver(model: XAR) -> None:
    passes: list[int] = []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    generate(model, begin(model, 0))
    hook.remove()
    assert len(passes) == 4 * 4


def test_rows_at_different_steps_draw_what_they_draw_alone(model: XAR) -> None:
    options = (Options(StepRamp(2.0)), Options(), Options(StepRamp(1.0), temperature=0.8))
    pair = drawn_together_and_alone(
        model, lambda seed, option: begin(model, seed, option), drawn, options
    )
    torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)


def test_the_first_x_is_not_guided_and_null_rows_need_no_noise(model: XAR) -> None:
    guided = begin(model, 0, Options(StepRamp(4.0)))
    guided[1].noise = ReplayedNoise({})  # raises if it is asked for any
    plain = begin(model, 0)
    generate(model, guided)
    generate(model, plain)
    first = model.config.x.order(LAYOUT).step == 0
    torch.testing.assert_close(drawn(guided)[:, first], drawn(plain)[:, first])
    assert not torch.allclose(drawn(guided)[:, ~first], drawn(plain)[:, ~first])


def test_given_tokens_are_held_and_read(model: XAR) -> None:
    results = []
    for seed in (0, 1):
        tokens = given(1, seed)
        tokens.known[0, 10:] = False
        rows = begin(model, 2, tokens=tokens)
        generate(model, rows)
        values = given(1, seed).values
        assert values is not None and torch.equal(drawn(rows)[0, :10], values[0, :10])
        results.append(drawn(rows)[0, 10:])
    assert not torch.allclose(*results)


def test_the_loss_is_repeatable_and_classes_are_dropped_in_training(model: XAR) -> None:
    first = model.loss(given(2), label(0, 1))
    assert torch.equal(first.total, model.loss(given(2), label(0, 1)).total)
    assert set(first.parts) == {"mse", "still"}
    dropping = build(replace(CONFIG, condition_dropout=0.999))
    losses = [
        dropping.loss(given(2), label(k, k), torch.Generator().manual_seed(0)).total for k in (0, 1)
    ]
    assert torch.equal(*losses)


def test_everything_learns() -> None:
    model = build().requires_grad_(True)
    model.loss(given(2), label(0, 1)).total.backward()  # type: ignore[no-untyped-call]
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_official_names_go_both_ways() -> None:
    model = build()
    state = official.table(CONFIG).to_official(model.state_dict())
    for stack, heads in (("encoder", 2), ("decoder", 4)):
        state[f"{stack}_blocks.0.attn.rope.freqs_cos"] = torch.zeros(16, 16 // heads)
    state["mask"] = torch.zeros(1, 1, 16, 16)
    assert detect(state) is official.XAR
    config = official.XAR.config(state)
    assert (config.x, config.tokens, config.classes) == (NextX("cell", 2), 16, 5)
    assert (config.encoder.heads, config.decoder.heads) == (2, 4)
    again = official.XAR.build(config, state).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    # the official sequence goes cell by cell
    assert torch.equal(state["encoder_pos_embed_learned"][0, 2], model.encoder_places[4])


def test_wrong_input_is_named(model: XAR) -> None:
    with pytest.raises(ConfigError, match=r"decoder\.width=24 .* that of the encoder"):
        replace(CONFIG, decoder=StackConfig(24, 1, 2))
    with pytest.raises(ConfigError, match=r"encoder\.width=16 .* 4 heads"):
        replace(CONFIG, encoder=StackConfig(16, 1, 8))
    with pytest.raises(ConfigError, match="tokens=36"):
        begin(model, 0, tokens=empty(grid(6, 6, kind="values"), width=WIDTH))
    with pytest.raises(ConfigError, match=r"block='1x3x3' .* divide the grid"):
        begin(build(replace(CONFIG, x=NextX("cell", 3))), 0)
    with pytest.raises(ConfigError, match="continuous vectors"):
        model.begin(empty(grid(4, 4), codes=1), label(0), Options(), SeededNoise(0))
