"""Meissonic's mechanism: masks, positions, conditions, editing, and that it learns."""

from dataclasses import replace

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.request import Request
from limner.core.row import Options
from limner.core.tokens import empty, from_ids
from limner.decoding import generate
from limner.heads.guidance import Constant
from limner.hub.build import blank, parameter_count
from limner.models.meissonic import Meissonic, MeissonicConfig

LAYOUT = grid(4, 6)
CODES = 19
CONFIG = MeissonicConfig(
    heads=2,
    head_width=12,
    joint=1,
    single=2,
    axes=(4, 4, 4),
    codebook_size=CODES,
    spare=3,
    text_length=5,
    text_width=7,
    steps=6,
)


def fresh(config):
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = Meissonic(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def model():
    return fresh(CONFIG)


def told(rows=1, seed=0):
    rng = torch.Generator().manual_seed(seed)
    shapes = {"text": (5, 7), "pooled": (24,), "null_text": (5, 7), "null_pooled": (24,)}
    return {name: torch.randn(rows, *shape, generator=rng) for name, shape in shapes.items()}


def pictures(rows, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(CODES, (rows, len(LAYOUT)), generator=rng)


def say(model, ids, masked, condition=None, share=0.5):
    condition = condition or told(len(ids))
    share = torch.full((len(ids),), share)
    return model(model.taught(from_ids(LAYOUT, ids), condition, masked, share), NoMemory())


def begin(model, seed=0, options=None, tokens=None):
    tokens = empty(LAYOUT, codes=1) if tokens is None else tokens
    return model.begin(tokens, told(), options or Options(), SeededNoise(seed))


@pytest.mark.parametrize("name", ["meissonic", "meissonic-512", "meissonic-vq-16"])
def test_parameter_counts_are_those_of_the_official_code(name):
    registry = TOKENIZERS if name.endswith("vq-16") else MODELS
    entry = registry.get_variant(name)
    assert (
        parameter_count(blank(registry.get_family(entry.family), entry.config)) == entry.published
    )


def test_what_is_masked_is_never_read(model):
    masked = torch.rand(2, len(LAYOUT), generator=torch.Generator().manual_seed(0)) < 0.5
    ids = pictures(2)
    outputs = say(model, ids, masked)
    assert outputs.shape == (2, len(LAYOUT), CODES)
    assert torch.equal(say(model, torch.where(masked, pictures(2, 1), ids), masked), outputs)
    place = (~masked[0]).nonzero()[0, 0]
    changed = ids.clone()
    changed[0, place] = (changed[0, place] + 1) % CODES
    moved = (say(model, changed, masked) - outputs).abs().amax(-1)
    assert torch.all(moved[0] > 1e-9) and torch.all(moved[1] == 0)


def test_words_stand_still_and_places_turn_by_difference(model):
    rotation = model.rotation((2, 3), 5, model.device)[0, 0]
    assert torch.equal(rotation[:5, :, 0], torch.ones(5, 6).double())
    assert torch.equal(rotation[:5, :, 1], torch.zeros(5, 6).double())
    turned = torch.view_as_complex(model.rotation((6, 6), 0, model.device)[0, 0].contiguous())
    turned = turned.unflatten(0, (6, 6))
    near, far = turned[1, 2] / turned[0, 0], turned[4, 5] / turned[3, 3]
    torch.testing.assert_close(near, far, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["text", "pooled", "numbers"])
def test_everything_that_is_told_counts(model, name):
    ids, masked = pictures(1), torch.ones(1, len(LAYOUT), dtype=torch.bool)
    given = {**told(), "numbers": model.numbers(LAYOUT, 1).clone()}
    before = say(model, ids, masked, given)
    given[name] = given[name] + 1
    assert (say(model, ids, masked, given) - before).abs().max() > 1e-3
    assert (say(model, ids, masked, told(), share=0.9) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["pooled", "numbers", "time"])
def test_closed_gates_keep_what_modulates_out_of_the_blocks(name):
    model = fresh(CONFIG)
    streams = [stream for block in model.joint for stream in (block.text, block.picture)]
    for block in (*streams, *model.single):
        linear, gates = block.modulation.linear, 1 if block in model.single else 2
        of_gates = slice(0, gates * CONFIG.width)  # they come first
        linear.weight[of_gates], linear.bias[of_gates] = 0, 0
    ids, masked = pictures(1), torch.ones(1, len(LAYOUT), dtype=torch.bool)
    masked[0, ::3] = False
    given = {**told(), "numbers": model.numbers(LAYOUT, 1).clone()}
    before = say(model, ids, masked, given)
    if name != "time":
        given[name] = given[name] + 1
    assert torch.equal(say(model, ids, masked, given, 0.9 if name == "time" else 0.5), before)
    assert (say(model, pictures(1, 1), masked, given) - before).abs().max() > 1e-3


def test_the_score_alone_counts(model):
    ids, masked = pictures(1), torch.ones(1, len(LAYOUT), dtype=torch.bool)
    given = {**told(), "numbers": model.numbers(LAYOUT, 1).clone()}
    before = say(model, ids, masked, given)
    given["numbers"][0, 4] += 1
    assert (say(model, ids, masked, given) - before).abs().max() > 1e-3


def test_size_and_score_are_told(model):
    row = begin(model)[0]
    assert row.condition["numbers"].tolist() == [[6 * 16, 4 * 16, 0, 0, 6]]


def test_rows_of_other_steps_and_guidance_do_not_touch(model):
    options = [Options(Constant(3.0), steps=4), Options(steps=6), Options(Constant(2.0), steps=5)]
    alone = [generate(model, begin(model, s, o))[0].tokens.ids for s, o in enumerate(options)]
    rows = [row for s, o in enumerate(options) for row in begin(model, s, o)]
    together = [row.tokens.ids for row in generate(model, rows)]
    assert all(torch.equal(*pair) for pair in zip(alone, together, strict=True))


def test_guidance_follows_the_null_text(model):
    rows = begin(model, options=Options(Constant(2.0)))
    assert torch.equal(rows[1].condition["text"], told()["null_text"])
    assert torch.equal(rows[1].condition["pooled"], told()["null_pooled"])


def test_given_codes_are_held_and_the_schedule_beside_them_is_linear(model):
    ids = pictures(1)
    tokens = from_ids(LAYOUT, ids)
    tokens.known[0, 5:15] = False
    rows, counts = begin(model, options=Options(steps=5), tokens=tokens), []
    generate(model, rows, [lambda events: counts.append(len(events[0].step.draw))])
    drawn = rows[0].tokens
    assert torch.equal(drawn.ids[0, :5, 0], ids[0, :5])
    assert torch.equal(drawn.ids[0, 15:, 0], ids[0, 15:])
    assert drawn.known.all() and counts == [10, 8, 6, 4, 2]


def test_a_picture_is_varied_the_more_the_stronger(model):
    ids = pictures(1)
    kept = []
    for strength in (0.2, 0.9):
        same = 0
        for seed in range(8):
            tokens = from_ids(LAYOUT, ids.clone())
            options = Options(steps=10)
            rows = model.vary(tokens, told(), options, SeededNoise(seed), strength)
            same += int((generate(model, rows)[0].tokens.ids[0, :, 0] == ids[0]).sum())
        kept.append(same / 8 / len(LAYOUT))
    assert kept[0] > 0.6 > 0.4 > kept[1]


def test_bad_input_is_refused_before_work_starts(model):
    odd = empty(grid(3, 6), codes=1)
    with pytest.raises(ConfigError, match="grid='3x6'"):
        model.begin(odd, told(), Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match="steps=25"):
        begin(model, options=Options(steps=25))
    with pytest.raises(ConfigError, match="axes"):
        replace(CONFIG, axes=(4, 4, 6))
    with pytest.raises(ConfigError, match="strength"):
        model.vary(from_ids(LAYOUT, pictures(1)), told(), Options(), SeededNoise(0), 1.0)
    with pytest.raises(ConfigError, match="one vector a text"):
        model.condition.ask(Request(1, prompts=["a cat"]))


def test_losses_are_repeatable_without_a_generator_and_random_with_one(model):
    tokens, given = from_ids(LAYOUT, pictures(4)), told(4)
    assert torch.equal(model.loss(tokens, given).total, model.loss(tokens, given).total)
    random = [model.loss(tokens, given, torch.Generator().manual_seed(s)).total for s in (0, 1)]
    assert random[0] != random[1]


@pytest.mark.slow
def test_it_learns_what_a_word_means_and_that_codes_agree():
    layout = grid(2, 2)
    config = MeissonicConfig(
        heads=2,
        head_width=16,
        joint=1,
        single=1,
        axes=(4, 6, 6),
        codebook_size=4,
        spare=1,
        compresses=False,
        condition="caption",
        text_length=2,
        steps=4,
    )
    torch.manual_seed(0)
    model, rng = Meissonic(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def ask(kinds):
        return model.condition.ask(Request(len(kinds), prompts=[("red", "blue")[k] for k in kinds]))

    for _ in range(300):
        kind = torch.randint(2, (32,), generator=rng)
        ids = (2 * kind + torch.randint(2, (32,), generator=rng)).unsqueeze(1).expand(-1, 4)
        loss = model.loss(from_ids(layout, ids), ask(kind.tolist()), rng)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    rows = []
    for seed in range(24):
        tokens = empty(layout, codes=1)
        rows += model.begin(tokens, ask([seed % 2]), Options(), SeededNoise(seed))
    drawn = torch.cat([row.tokens.ids[..., 0] for row in generate(model.eval(), rows)])
    assert (drawn // 2 == torch.tensor([0, 1] * 12).unsqueeze(1)).float().mean() > 0.9
    assert (drawn == drawn[:, :1]).all(1).float().mean() > 0.7
    assert 0.1 < (drawn % 2).float().mean() < 0.9
