"""ARFlow's mechanism: rows of pictures, the carried state, guidance, and that it learns."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from limner.core.errors import ConfigError
from limner.core.layout import grid, pyramid
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.core.tokens import empty, from_ids, from_values
from limner.decoding import advance, generate
from limner.heads.guidance import Constant
from limner.hub.build import blank, parameter_count
from limner.layers.vision_transformer import StackConfig
from limner.models.arflow import ARFlow, ARFlowConfig, companions
from tests.models.together import drawn_together_and_alone

LAYOUT = grid(2, 3, kind="values")
WIDTH, CLASSES = 8, 3
CONFIG = ARFlowConfig(
    StackConfig(16, 2, 2),
    token_width=WIDTH,
    classes=CLASSES,
    sequence=3,
    steps=5,
    guided_channels=3,
)


@pytest.fixture(scope="module")
def model():
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = ARFlow(CONFIG).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def label(*numbers):
    return {"label": torch.tensor(numbers)}


def values(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, len(LAYOUT), WIDTH, generator=rng, dtype=torch.float64)


def begin(model, seed, options=None, tokens=None, kind=1):
    tokens = empty(LAYOUT, width=WIDTH, dtype=torch.float64) if tokens is None else tokens
    return model.begin(tokens, label(kind), options or Options(), SeededNoise(seed))


def drawn(rows):
    return torch.cat([row.tokens.values for row in rows if row.lead is None])


@pytest.mark.parametrize(
    ("name", "millions"), [("s", 34.7), ("b", 137.5), ("l", 483.4), ("xl", 712.5)]
)
def test_parameter_counts_are_the_official_ones(name, millions):
    entry = MODELS.get_variant(f"arflow-{name}-2")
    network = blank(MODELS.get_family(entry.family), entry.config)
    places = 64 * entry.config.stack.width  # counted there, computed here
    assert round((parameter_count(network) + places) / 1e6, 1) == millions


def test_later_pictures_read_earlier_ones_and_not_the_reverse(model):
    clean, noise = values(1, 3), values(1, 3, seed=1)
    time = torch.tensor([[0.9, 0.5, 0.1]])
    before = model.teach(LAYOUT, clean, label(0), time, noise).unflatten(1, (3, -1))
    changed = clean.clone()
    changed[0, 1, 4] += 1
    after = model.teach(LAYOUT, changed, label(0), time, noise).unflatten(1, (3, -1))
    moved = (after - before).abs().amax(-1)[0]
    assert torch.all(moved[0] == 0) and torch.all(moved[1:] > 1e-9)
    alone = model.teach(LAYOUT, clean[:, :1], label(0), time[:, :1], noise[:, :1])
    torch.testing.assert_close(alone, before[:, 0])


def test_without_the_state_later_pictures_are_told_otherwise(model):
    clean, noise = values(1, 3), values(1, 3, seed=1)
    time = torch.tensor([[0.9, 0.5, 0.1]])
    in_row = model.teach(LAYOUT, clean, label(0), time, noise).unflatten(1, (3, -1))[0]
    for picture in range(3):
        one = slice(picture, picture + 1)
        alone = model.teach(LAYOUT, clean[:, one], label(0), time[:, one], noise[:, one])[0]
        apart = (alone - in_row[picture]).abs()
        assert apart.max() < 1e-9 if picture == 0 else torch.all(apart.amax(-1) > 1e-3)


def test_late_steps_cost_what_early_ones_do(model):
    rows = begin(model, 0, Options(Constant(2.0), steps=12))
    memory = model.memory(rows)
    memory.admit(rows)
    costs = []
    for _ in range(12):
        with FlopCounterMode(display=False) as counter:
            advance(model, rows, memory)
        costs.append(counter.get_total_flops())
    assert costs[0] > 0 and len(set(costs[1:])) == 1 and costs[1] <= 1.2 * costs[0]


def test_a_run_is_one_row_of_its_own_steps(model, monkeypatch):
    """Teacher forcing over the pictures of a run says what the run was told step by step."""
    drafts, levels, told = [], [], []
    evaluate = ARFlow.forward

    def remembered(self, packed, memory):
        out = evaluate(self, packed, memory)
        drafts.append(packed.noisy)
        levels.append(packed.level[:, :1])
        told.append(out)
        return out

    monkeypatch.setattr(ARFlow, "forward", remembered)
    generate(model, begin(model, 0))
    monkeypatch.undo()
    assert len(drafts) == CONFIG.steps
    row, level = torch.stack(drafts, dim=1), torch.cat(levels, dim=1)
    left = (1 - level).double()[..., None, None]
    # clean pictures without noise that are at these levels what the run drew; the first is noise
    clean, noise = row / left.clamp(min=1e-9), torch.zeros_like(row)
    clean[:, 0], noise[:, 0] = 0, row[:, 0]
    expected = model.teach(LAYOUT, clean, label(1), level, noise)
    torch.testing.assert_close(expected, torch.cat(told, dim=1), rtol=1e-6, atol=1e-6)


def test_memory_does_not_grow(model):
    rows = begin(model, 0, Options(Constant(2.0), steps=9))
    memory = model.memory(rows)
    memory.admit(rows)
    sizes = []
    while advance(model, rows, memory):
        sizes.append(memory.bytes())
    assert len(sizes) == 9 and len(set(sizes)) == 1
    assert sizes[0] == 2 * CONFIG.stack.depth * 2 * 8 * 8 * 8  # rows, layers, heads, d, d, bytes


def test_the_last_channel_is_not_guided(model):
    """One step from noise: guided and unguided runs differ in the first channels alone."""
    first = []
    for options in (Options(steps=2), Options(Constant(4.0), steps=2)):
        rows = begin(model, 0, options)
        memory = model.memory(rows)
        memory.admit(rows)
        advance(model, rows, memory)
        first.append(drawn(rows))
    moved = (first[0] - first[1]).abs()
    assert torch.all(moved[..., :6] > 1e-9) and torch.all(moved[..., 6:] < 1e-12)


def test_rows_at_different_steps_draw_what_they_draw_alone(model):
    options = (Options(Constant(2.0), steps=6), Options(steps=3), Options(Constant(4.0), steps=5))
    pair = drawn_together_and_alone(
        model, lambda seed, option: begin(model, seed, option, kind=seed), drawn, options
    )
    torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)


def test_given_tokens_are_held_and_read(model):
    results = []
    for seed in (0, 1):
        tokens = from_values(LAYOUT, values(1, seed=seed))
        tokens.known[0, 2:4] = False
        rows = begin(model, 7, tokens=tokens)
        generate(model, rows)
        assert torch.equal(drawn(rows)[0, :2], values(1, seed=seed)[0, :2])
        results.append(drawn(rows)[0, 2:4])
    assert not torch.allclose(*results)


def test_companions_are_of_one_class_and_different_where_there_are_enough():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    for seed in range(20):
        rows = companions(labels, 3, torch.Generator().manual_seed(seed))
        assert rows.shape == (3, 3)
        for row in rows:
            kinds = labels[row]
            assert torch.all(kinds == kinds[0])
            assert len(row.unique()) == (1 if kinds[0] == 2 else 3)


def test_losses_are_repeatable_without_a_generator_and_random_with_one(model):
    tokens, given = from_values(LAYOUT, values(6)), label(0, 1, 2, 0, 1, 2)
    assert torch.equal(model.loss(tokens, given).total, model.loss(tokens, given).total)
    random = [model.loss(tokens, given, torch.Generator().manual_seed(s)).total for s in (0, 1)]
    assert random[0] != random[1]


def test_bad_input_is_refused_before_work_starts(model):
    with pytest.raises(ConfigError, match="steps=1"):
        begin(model, 0, Options(steps=1))
    with pytest.raises(ConfigError, match="tokens='codes'"):
        begin(model, 0, tokens=from_ids(grid(2, 3), torch.zeros(1, 6, dtype=torch.int64)))
    with pytest.raises(ConfigError, match="tokens='a pyramid'"):
        begin(model, 0, tokens=empty(pyramid(((1, 1), (2, 2)), "values"), width=WIDTH))
    for field, value in (("channels", 3), ("guided_channels", 5), ("last", 1.0), ("sequence", 0)):
        with pytest.raises(ConfigError, match=field):
            replace(CONFIG, **{field: value})


@pytest.mark.slow
def test_it_learns_what_a_class_looks_like_and_context_helps():
    """Pictures of one colour: red or blue by class, light or dark by chance."""
    layout = grid(2, 2, kind="values")
    config = ARFlowConfig(StackConfig(32, 2, 2), token_width=2, channels=2, classes=2, steps=20)
    torch.manual_seed(0)
    network, rng = ARFlow(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(400):
        kind, light = torch.randint(2, (2, 40), generator=rng)
        colour = torch.stack([2.0 * kind - 1, 2.0 * light - 1], dim=-1)
        pictures = colour.unsqueeze(1) + 0.1 * torch.randn(40, 4, 2, generator=rng)
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        loss = network.loss(from_values(layout, pictures), {"label": kind}, rng)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    rows = []
    for seed in range(40):
        tokens = empty(layout, width=2)
        rows += network.begin(tokens, label(seed % 2), Options(), SeededNoise(seed))
    generate(network.eval(), rows)
    pictures = drawn(rows)
    expected = torch.tensor([-1.0, 1.0]).repeat(20)
    assert ((pictures[..., 0].mean(1) - expected).abs() < 0.5).float().mean() > 0.8
    shade = pictures[..., 1]
    assert ((shade.sign() == shade[:, :1].sign()).all(1)).float().mean() > 0.8
    assert 0.1 < (shade[:, 0] > 0).float().mean() < 0.9
