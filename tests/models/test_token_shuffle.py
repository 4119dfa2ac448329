"""Token-Shuffle's mechanism: windows, prompts, memory, and that it learns."""

from dataclasses import replace

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.generator import Packed
from limner.core.layout import grid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Options
from limner.core.tokens import empty, from_ids
from limner.decoding import generate
from limner.heads.guidance import HalfRamp, schedule
from limner.hub.build import blank, parameter_count
from limner.models.token_shuffle import TokenShuffleConfig, TokenShuffleDecoder

LAYOUT = grid(6, 9)
CONFIG = TokenShuffleConfig(
    width=36,
    depth=2,
    heads=6,
    key_heads=3,
    hidden=40,
    codebook_size=23,
    window=3,
    text_length=9,
)


def fresh(config):
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = TokenShuffleDecoder(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def model():
    return fresh(CONFIG)


def prompts(model, *texts):
    return model.condition.ask(Request(len(texts), prompts=texts))


def pictures(rows, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(CONFIG.codebook_size, (rows, len(LAYOUT)), generator=rng)


def teach(model, ids, condition):
    """Return the logits of all codes by place, [B, N, V]."""
    tokens = from_ids(LAYOUT, ids)
    packed = Packed(tokens, model.teacher_slots(LAYOUT, condition), [condition])
    order = torch.cat([step.draw for step in model.windows(LAYOUT).steps])
    return model(packed, NoMemory())[:, order.argsort()]


def begin(model, text, options=None, seed=0, tokens=None):
    tokens = empty(LAYOUT, codes=1) if tokens is None else tokens
    return model.begin(tokens, prompts(model, text), options or Options(), SeededNoise(seed))


@pytest.mark.parametrize("size", [512, 1024, 2048])
def test_parameter_counts_come_to_the_published_one(size):
    entry = MODELS.get_variant(f"token-shuffle-2.7b-{size}")
    network = blank(MODELS.get_family(entry.family), entry.config)
    whole = parameter_count(network)
    around = sum(parameter_count(part) for part in (network.shuffle, network.unshuffle) if part)
    assert round((whole - around) / 1e9, 2) == 2.71
    assert around == (0 if size == 512 else 2 * (3072 * 768 + 2 * (2 * 3072**2 + 3072)))


def test_windows_are_read_causally(model):
    given, ids = prompts(model, "ab"), pictures(1)
    windows = model.windows(LAYOUT).step
    before = teach(model, ids, given)
    for place in (0, 13, 53):
        changed = ids.clone()
        changed[0, place] = (changed[0, place] + 1) % CONFIG.codebook_size
        moved = (teach(model, changed, given) - before).abs().amax(-1)[0] > 1e-9
        later = windows > windows[place]
        assert torch.equal(moved, later)


@pytest.mark.parametrize("window", [None, 3])
def test_what_is_drawn_is_what_the_finished_picture_makes_likeliest(window):
    model = fresh(replace(CONFIG, window=window))
    rows = begin(model, "a cat", Options(temperature=0.0))
    steps = []
    drawn = generate(model, rows, [steps.append])[0].tokens.ids[..., 0]
    assert len(steps) == len(LAYOUT) // model.config.side**2
    assert torch.equal(teach(model, drawn, prompts(model, "a cat")).argmax(-1), drawn)


def test_codes_come_back_at_their_places_of_a_grid_that_is_no_square():
    """Behind each other, merging and splitting keep the first channels of every code."""
    model, (rows, columns), side = fresh(CONFIG), LAYOUT.extent[1:], 3
    kept = CONFIG.width // side**2
    for part in (model.shuffle, model.unshuffle):
        for block in part.blocks:
            block.mlp.out.weight.zero_()
    model.shuffle.compress.weight.copy_(torch.eye(kept, CONFIG.width))
    model.unshuffle.expand.weight.copy_(torch.eye(CONFIG.width, kept))
    tokens = from_ids(LAYOUT, pictures(2))
    windows = torch.arange(rows * columns // side**2).expand(2, -1)
    back = model.unshuffle(model.merged(tokens, windows))
    for row in range(rows):
        for column in range(columns):
            window = row // side * (columns // side) + column // side
            inside = row % side * side + column % side
            code = tokens.ids[:, row * columns + column, 0] + CONFIG.text_vocabulary
            found = back[:, window, inside]
            assert torch.equal(found[:, :kept], model.tokens.weight[code][:, :kept])
            assert torch.all(found[:, kept:] == 0)


@pytest.mark.parametrize("window", [None, 3])
def test_memory_gives_the_logits_of_one_pass_over_the_finished_picture(window):
    model, seen, passes = fresh(replace(CONFIG, window=window)), {}, []

    def watch(logits, row, tokens):
        seen.update(zip(tokens.tolist(), logits, strict=True))
        return logits

    model.register_forward_hook(lambda *_: passes.append(1))
    drawn = generate(model, begin(model, "a cat", Options(processors=(watch,))))[0].tokens
    assert len(passes) == len(LAYOUT) // model.config.side**2  # windows, not codes
    cached = torch.stack([seen[token] for token in range(len(LAYOUT))])
    whole = teach(model, drawn.ids[..., 0], prompts(model, "a cat"))[0]
    torch.testing.assert_close(cached, whole, rtol=1e-9, atol=1e-9)


def test_the_first_window_is_not_guided(model):
    drawn = {}
    for name, scale in (("plain", 1.0), ("guided", 8.0)):
        options = Options(schedule("half-ramp", scale), temperature=0.0)
        drawn[name] = generate(model, begin(model, "ab", options))[0].tokens.ids[0, :, 0]
    first = model.windows(LAYOUT).step == 0
    assert torch.equal(drawn["plain"][first], drawn["guided"][first])
    assert not torch.equal(drawn["plain"], drawn["guided"])


def test_prompts_of_different_lengths_do_not_touch(model):
    ids = pictures(3)
    texts = ("", "ab", "abcdefghijk")
    together = teach(model, ids, prompts(model, *texts))
    for row, text in enumerate(texts):
        alone = teach(model, ids[row : row + 1], prompts(model, text))
        torch.testing.assert_close(alone[0], together[row])
    assert not torch.allclose(together[0], teach(model, ids[:1], prompts(model, "x"))[0])


def test_positions_count_from_the_first_word(model):
    """Padding before a prompt shifts nothing: a longer prefix of the same words is the same."""
    longer = fresh(CONFIG)
    longer = TokenShuffleDecoder(replace(CONFIG, text_length=14)).double().eval()
    longer.load_state_dict(model.state_dict())
    ids = pictures(1)
    torch.testing.assert_close(
        teach(longer, ids, prompts(longer, "ab")), teach(model, ids, prompts(model, "ab"))
    )


def test_the_null_row_reads_begin_and_start_alone(model):
    null = model.null(prompts(model, "ab", "abc"))
    for ids, here in zip(null["ids"], null["present"], strict=True):
        assert ids[here].tolist() == [CONFIG.begin, CONFIG.start]


def test_guidance_rises_over_the_first_half(model):
    row = begin(model, "a", Options(schedule("half-ramp", 4.0)))[0]
    guidance, steps = row.options.guidance, model.windows(LAYOUT).steps
    assert isinstance(guidance, HalfRamp)
    scales = [guidance.scale(row, step) for step in steps]
    assert scales == [None, 2.0, 3.0, 4.0, 4.0, 4.0]


def test_given_codes_are_held_and_read(model):
    ids = pictures(1)
    tokens = from_ids(LAYOUT, ids)
    tokens.known[0, 20:30] = False
    rows = begin(model, "a", tokens=tokens)
    drawn = generate(model, rows)[0].tokens
    assert torch.equal(drawn.ids[0, :20, 0], ids[0, :20])
    assert torch.equal(drawn.ids[0, 30:, 0], ids[0, 30:])
    assert drawn.known.all()


def test_bad_input_is_refused_before_work_starts(model):
    with pytest.raises(ConfigError, match="block='1x3x3'"):
        model.begin(empty(grid(4, 6), codes=1), prompts(model, "a"), Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match="window=5"):
        replace(CONFIG, window=5)
    with pytest.raises(ConfigError, match="key_heads=4"):
        replace(CONFIG, key_heads=4)
    with pytest.raises(ConfigError, match="begin=300"):
        replace(CONFIG, begin=300)
    with pytest.raises(ConfigError, match="classes are not accepted"):
        model.condition.ask(Request(1, labels=[0]))
    with pytest.raises(ConfigError, match="text_vocabulary=50"):
        fresh(replace(CONFIG, text_vocabulary=50, begin=1)).condition.ask(Request(1, prompts=["a"]))


def test_the_normaliser_is_held_down(model):
    held = TokenShuffleDecoder(replace(CONFIG, log_normaliser=0.5)).double().eval()
    held.load_state_dict(model.state_dict())
    tokens, given = from_ids(LAYOUT, pictures(2)), prompts(model, "a", "b")
    plain, more = model.loss(tokens, given), held.loss(tokens, given)
    close = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}  # logits are float32 there
    torch.testing.assert_close(more.parts["cross_entropy"], plain.total, **close)
    expected = plain.total + 0.5 * more.parts["log_normaliser"]
    torch.testing.assert_close(more.total, expected, **close)


@pytest.mark.slow
def test_it_learns_windows_of_which_codes_agree_and_what_a_word_means():
    layout, config = grid(2, 4), replace(CONFIG, width=32, heads=4, key_heads=2, window=2)
    torch.manual_seed(0)
    model, rng = TokenShuffleDecoder(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        kind = torch.randint(2, (32,), generator=rng)
        ids = (10 * kind + torch.randint(2, (32,), generator=rng)).unsqueeze(1).expand(-1, 8)
        given = prompts(model, *("ab"[k] for k in kind))
        loss = model.loss(from_ids(layout, ids), given, rng)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    rows = []
    for seed in range(20):
        given = prompts(model, "ab"[seed % 2])
        rows += model.begin(empty(layout, codes=1), given, Options(), SeededNoise(seed))
    drawn = torch.cat([row.tokens.ids[..., 0] for row in generate(model.eval(), rows)])
    assert ((drawn // 10 == torch.tensor([0, 1] * 10).unsqueeze(1)).float().mean()) > 0.95
    # codes of one window are independent; the next window follows the one before
    assert (drawn[:, 2:4] == drawn[:, 6:8]).float().mean() > 0.5
