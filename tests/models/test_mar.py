"""MAR's mechanism: what it reads, in which order it draws, and that it learns."""

from dataclasses import replace

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.memory import NoMemory
from limner.core.noise import ReplayedNoise, SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.core.tokens import empty, from_values
from limner.decoding import advance, generate
from limner.heads.diffusion import DiffusionConfig
from limner.heads.guidance import Constant, DrawnRamp
from limner.hub.build import blank, parameter_count
from limner.layers.vision_transformer import StackConfig
from limner.models.mar import MAR, MARConfig

LAYOUT = grid(3, 4, kind="values")
WIDTH, CLASSES = 5, 3
CONFIG = MARConfig(
    encoder=StackConfig(16, 2, 2),
    decoder=StackConfig(24, 2, 3),
    head=DiffusionConfig(width=16, depth=2, steps="ddim5", repeats=2),
    tokens=len(LAYOUT),
    token_width=WIDTH,
    classes=CLASSES,
    buffer=2,
    steps=4,
)


@pytest.fixture(scope="module")
def model():
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = MAR(CONFIG).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def label(*numbers):
    return {"label": torch.tensor(numbers)}


def values(rows, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(rows, len(LAYOUT), WIDTH, generator=rng, dtype=torch.float64)


def begin(model, seed, options=None, tokens=None, kind=1):
    tokens = empty(LAYOUT, width=WIDTH, dtype=torch.float64) if tokens is None else tokens
    return model.begin(tokens, label(kind), options or Options(), SeededNoise(seed))


def drawn(rows):
    return torch.cat([row.tokens.values for row in rows if row.lead is None])


@pytest.mark.parametrize(
    ("variant", "millions", "head"),
    [
        ("mar-base", 207.92, 35.75),
        ("mar-large", 478.33, 72.23),
        ("mar-huge", 942.40, 151.21),
    ],
)
def test_parameter_counts_are_the_published_ones(variant, millions, head):
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert round(parameter_count(network) / 1e6, 2) == millions
    assert round(parameter_count(network.head) / 1e6, 2) == head


def test_what_is_masked_is_never_read(model):
    masked = torch.zeros(2, len(LAYOUT), dtype=torch.bool)
    masked[0, [1, 4, 7]] = masked[1, [0, 2]] = True  # rows know different numbers of tokens
    contents = values(2)
    packed = model.masked(from_values(LAYOUT, contents), label(0, 2), masked)
    outputs = model(packed, NoMemory())
    for other in (values(2, seed=1), torch.full_like(contents, torch.nan)):
        changed = torch.where(masked.unsqueeze(-1), other, contents)
        packed = model.masked(from_values(LAYOUT, changed), label(0, 2), masked)
        assert torch.equal(model(packed, NoMemory()), outputs)
    changed = contents.clone()
    changed[0, 0] += 1
    packed = model.masked(from_values(LAYOUT, changed), label(0, 2), masked)
    moved = (model(packed, NoMemory()) - outputs).abs().amax(-1)
    assert torch.all(moved[0] > 1e-6) and torch.all(moved[1] == 0)


def test_rows_that_know_different_numbers_of_tokens_do_not_touch(model):
    masked = torch.rand(4, len(LAYOUT), generator=torch.Generator().manual_seed(0)) < 0.6
    masked[3] = True
    tokens = from_values(LAYOUT, values(4))
    together = model(model.masked(tokens, label(0, 1, 2, 3), masked), NoMemory())
    for row in range(4):
        alone = model.masked(tokens.row(row), label(row), masked[row : row + 1])
        torch.testing.assert_close(model(alone, NoMemory())[0], together[row])


@pytest.mark.parametrize("steps", [1, 4, len(LAYOUT)])
def test_every_token_is_drawn_once(model, steps):
    rows = begin(model, 0, Options(steps=steps))
    counts = []
    generate(model, rows, [lambda events: counts.append(len(events[0].step.draw))])
    assert len(counts) == steps and sum(counts) == len(LAYOUT)
    assert rows[0].tokens.known.all()
    if steps == 4:
        assert counts == [1, 3, 4, 4]  # 11, 8, 4 stay masked: 12 cos(pi / 8 (k + 1))


def test_orders_differ_by_row_and_follow_the_seed(model):
    first, again, other = (begin(model, seed)[0].order.step for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_more_steps_than_tokens_are_refused(model):
    with pytest.raises(ConfigError, match=r"steps=13 .* the number of tokens, 12"):
        begin(model, 0, Options(steps=13))


def test_another_number_of_tokens_is_refused(model):
    tokens = empty(grid(4, 4, kind="values"), width=WIDTH)
    with pytest.raises(ConfigError, match="tokens=16"):
        model.begin(tokens, label(0), Options(), SeededNoise(0))


def test_given_tokens_are_held_and_read(model):
    results = []
    for seed in (0, 1):
        tokens = from_values(LAYOUT, values(1, seed))
        tokens.known[0, 3:6] = False  # fewer than the default number of steps
        rows = begin(model, 7, tokens=tokens)
        assert len(rows[0].order) == 3
        generate(model, rows)
        assert torch.equal(drawn(rows)[0, 6:], values(1, seed)[0, 6:])
        assert not torch.allclose(drawn(rows)[0, 3:6], values(1, seed)[0, 3:6])
        results.append(drawn(rows)[0, 3:6])
    assert not torch.allclose(*results)


def test_a_row_of_which_all_is_given_is_finished(model):
    rows = begin(model, 0, tokens=from_values(LAYOUT, values(1)))
    generate(model, rows)
    assert torch.equal(drawn(rows), values(1))


def test_null_rows_need_no_noise(model):
    guided = begin(model, 0, Options(DrawnRamp(3.0)))
    assert len(guided) == 2
    guided[1].noise = ReplayedNoise({})  # raises if it is asked for any
    generate(model, guided)
    unguided = begin(model, 0)
    generate(model, unguided)
    assert not torch.allclose(drawn(guided), drawn(unguided))


def test_rows_at_different_steps_draw_what_they_draw_alone(model):
    options = (
        Options(Constant(2.0), temperature=0.8, steps=6),
        Options(steps=3),
        Options(DrawnRamp(4.0), steps=12),
    )
    alone = []
    for seed, option in enumerate(options):
        rows = begin(model, seed, option, kind=seed)
        generate(model, rows)
        alone.append(drawn(rows))
    everyone, memory = [], model.memory([])
    for seed, option in enumerate(options):
        rows = begin(model, seed, option, kind=seed)
        everyone += rows
        memory.admit(everyone)
        advance(model, everyone, memory)
    while advance(model, everyone, memory):
        pass
    torch.testing.assert_close(drawn(everyone), torch.cat(alone), rtol=1e-10, atol=1e-10)


def test_rows_may_take_different_numbers_of_denoising_steps(model, monkeypatch):
    def inner_steps(row, step):
        return "ddim5" if row.condition["label"] == 0 else "ddim8"

    monkeypatch.setattr(model.head, "inner_steps", inner_steps)
    alone = []
    for kind in (0, 1):
        rows = begin(model, kind, kind=kind)
        generate(model, rows)
        alone.append(drawn(rows))
    rows = begin(model, 0, kind=0) + begin(model, 1, kind=1)
    generate(model, rows)
    torch.testing.assert_close(drawn(rows), torch.cat(alone), rtol=1e-10, atol=1e-10)


def test_losses_are_repeatable_without_a_generator_and_random_with_one(model):
    tokens, given = from_values(LAYOUT, values(8)), label(*[0, 1, 2, 0] * 2)
    assert torch.equal(model.loss(tokens, given).total, model.loss(tokens, given).total)
    random = [model.loss(tokens, given, torch.Generator().manual_seed(s)).total for s in (0, 1)]
    assert random[0] != random[1]
    assert set(model.loss(tokens, given).parts) == {"mse", "vb"}


def test_conditions_are_dropped_in_training(model):
    network = MAR(replace(CONFIG, condition_dropout=1.0)).double().eval()
    network.load_state_dict(model.state_dict())
    tokens = from_values(LAYOUT, values(4))

    def loss(kind):
        rng = torch.Generator().manual_seed(0)
        return network.loss(tokens, label(*[kind] * 4), rng).total

    assert torch.equal(loss(0), loss(1))
    assert (
        network.loss(tokens, label(0, 0, 0, 0)).total
        != network.loss(tokens, label(1, 1, 1, 1)).total
    )


def test_attention_weights_are_dropped_in_training_alone():
    network = MAR(replace(CONFIG, dropout=0.0, attention_dropout=0.5))
    packed = network.masked(
        from_values(LAYOUT, values(1).float()), label(0), torch.zeros(1, len(LAYOUT)).bool()
    )
    network.eval()
    assert torch.equal(network(packed, NoMemory()), network(packed, NoMemory()))
    network.train()
    assert not torch.equal(network(packed, NoMemory()), network(packed, NoMemory()))


@pytest.mark.slow
def test_it_learns_what_a_class_looks_like():
    """Pictures of one colour: red or blue by class, light or dark by chance."""
    layout = grid(2, 2, kind="values")
    stack = StackConfig(32, 1, 2)
    head = DiffusionConfig(width=48, depth=2, steps="ddim25", repeats=2)
    config = MARConfig(
        stack, stack, head, tokens=4, token_width=2, classes=2, buffer=2, dropout=0.0
    )
    torch.manual_seed(0)
    network, rng = MAR(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(600):
        kind, light = torch.randint(2, (2, 64), generator=rng)
        colour = torch.stack([2.0 * kind - 1, 2.0 * light - 1], dim=-1)
        noise = 0.1 * torch.randn(64, 4, 2, generator=rng)
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 600)
        loss = network.loss(from_values(layout, colour.unsqueeze(1) + noise), {"label": kind}, rng)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    network.eval()
    rows = []
    for seed in range(40):
        tokens = empty(layout, width=2)
        rows += network.begin(tokens, label(seed % 2), Options(steps=4), SeededNoise(seed))
    generate(network, rows)
    pictures = drawn(rows)
    expected = torch.tensor([-1.0, 1.0]).repeat(20)
    assert ((pictures[..., 0].mean(1) - expected).abs() < 0.3).float().mean() > 0.9
    # all tokens of a picture agree on a shade that no condition tells, and both shades occur
    shade = pictures[..., 1]
    assert ((shade.sign() == shade[:, :1].sign()).all(1)).float().mean() > 0.9
    assert 0.2 < (shade[:, 0] > 0).float().mean() < 0.8
