"""ACDiT's mechanism: who sees whom, memory, given blocks, clips, and that it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError
from limner.core.layout import Layout, grid
from limner.core.noise import ReplayedNoise, SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options, Row
from limner.core.slots import attention_mask, skip_causal
from limner.core.tokens import Tokens, empty, from_values
from limner.decoding import generate
from limner.heads.annealing import StepAnnealing
from limner.heads.denoising import DenoisingConfig
from limner.heads.guidance import Constant
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import acdit as official
from limner.layers.axial_mixing import mix_positions, mixing_table
from limner.layers.vision_transformer import StackConfig
from limner.models.acdit import ACDiT, ACDiTConfig
from limner.orders.copies import block_slots
from tests.models.together import drawn_together_and_alone

WIDTH = 3
PICTURE = grid(4, 4, kind="values")
CLIP = grid(2, 2, 4, kind="values")
CONFIG = ACDiTConfig(
    StackConfig(64, 2, 1, 2.0), DenoisingConfig(3), token_width=WIDTH, block=4, classes=5
)


def build(config: ACDiTConfig = CONFIG) -> ACDiT:
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = ACDiT(config).double().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm.weight" in name else 0.0, std=0.2)
    return model


@pytest.fixture(scope="module", params=["picture", "clip"])
def case(request: pytest.FixtureRequest) -> tuple[ACDiT, Layout]:
    if request.param == "picture":
        return build(), PICTURE
    return build(replace(CONFIG, square=False, block=8, split=(1, 1, 2))), CLIP


def label(*numbers: int) -> dict[str, Tensor]:
    return {"label": torch.tensor(numbers)}


def given(layout: Layout, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(1, len(layout), WIDTH, generator=rng, dtype=torch.float64)


def drawn(rows: Sequence[Row]) -> Tensor:
    return torch.cat([row.tokens.values for row in rows if row.lead is None])  # type: ignore[misc]


def begin(
    model: ACDiT, layout: Layout, seed: int, options: Options, tokens: Tokens | None = None
) -> list[Row]:
    tokens = tokens or empty(layout, width=WIDTH, dtype=torch.float64)
    return model.begin(tokens, label(seed % 5), options, SeededNoise(seed))


def told(model: ACDiT, layout: Layout, clean: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
    return model.teach(from_values(layout, clean), label(1), noisy, time)


def test_blocks_see_themselves_and_what_is_clean_before_them(case: tuple[ACDiT, Layout]) -> None:
    model, layout = case
    block = model.config.blocks(layout).step
    time = (block * 100 + 7).unsqueeze(0)
    clean, noisy = given(layout), given(layout, 1)
    before = told(model, layout, clean, noisy, time)
    other_noisy, other_clean = noisy.clone(), clean.clone()
    other_noisy[:, block == 1] += 1
    other_clean[:, block == 1] += 1
    after = told(model, layout, clean, other_noisy, time)
    assert torch.equal(before[:, block != 1], after[:, block != 1])
    assert bool(((before - after)[:, block == 1].abs().amax(-1) > 1e-9).all())
    after = told(model, layout, other_clean, noisy, time)
    assert torch.equal(before[:, block <= 1], after[:, block <= 1])
    assert bool((block.max() == 1) | ((before - after)[:, block > 1].abs().amax(-1) > 1e-9).all())


def test_a_block_has_a_time_of_its_own(case: tuple[ACDiT, Layout]) -> None:
    model, layout = case
    block = model.config.blocks(layout).step
    time = (block * 100 + 7).unsqueeze(0)
    before = told(model, layout, given(layout), given(layout, 1), time)
    time[:, block == 1] += 50
    after = told(model, layout, given(layout), given(layout, 1), time)
    assert torch.equal(before[:, block != 1], after[:, block != 1])
    assert not torch.allclose(before[:, block == 1], after[:, block == 1])


def test_drawing_with_memory_gives_the_outputs_of_one_pass(case: tuple[ACDiT, Layout]) -> None:
    model, layout = case
    passes: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: passes.append(output))
    start = given(layout, 5)
    rows = begin(model, layout, 1, Options(Constant(2.0)))
    rows[0].noise = ReplayedNoise({"start": start[0]})
    rows[1].noise = ReplayedNoise({})  # raises if it is asked for any
    generate(model, rows)
    hook.remove()
    order, steps = model.config.blocks(layout), model.config.head.steps
    assert len(passes) == len(order) * steps
    first = torch.cat(passes[::steps], dim=1)
    time = torch.full((1, len(layout)), model.config.head.chain - 1)
    known = from_values(layout, drawn(rows))
    whole = torch.cat([model.teach(known, label(one), start, time) for one in (1, 5)])
    places = torch.cat([step.draw for step in order.steps])
    torch.testing.assert_close(first, whole[:, places], rtol=1e-9, atol=1e-9)


def test_rows_at_different_blocks_draw_what_they_draw_alone(case: tuple[ACDiT, Layout]) -> None:
    model, layout = case
    options = (Options(Constant(2.0)), Options(), Options(Constant(1.5), temperature=0.8))
    pair = drawn_together_and_alone(
        model, lambda seed, option: begin(model, layout, seed, option), drawn, options
    )
    torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)


def test_given_blocks_are_read_and_not_drawn(case: tuple[ACDiT, Layout]) -> None:
    model, layout = case
    rows = begin(model, layout, 1, Options())
    generate(model, rows)
    whole = drawn(rows)
    order = model.config.blocks(layout)
    tokens = Tokens(layout, None, whole.clone(), (order.step < 1).unsqueeze(0))
    tokens.values[~tokens.known] = 9.0  # type: ignore[index]
    rows = begin(model, layout, 1, Options(), tokens)
    passes: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: passes.append(output))
    generate(model, rows)
    hook.remove()
    assert len(passes) == (len(order) - 1) * model.config.head.steps
    torch.testing.assert_close(drawn(rows), whole, rtol=1e-9, atol=1e-9)


def test_one_block_of_everything_is_a_plain_transformer() -> None:
    model = build(replace(CONFIG, block=16))
    noisy, time = given(PICTURE, 1), torch.full((1, 16), 300)
    before = told(model, PICTURE, given(PICTURE), noisy, time)
    assert torch.equal(before, told(model, PICTURE, given(PICTURE, 2), noisy, time))


def plain_transformer(model: ACDiT, noisy: Tensor, time: Tensor, label: Tensor) -> Tensor:
    """The same weights as a diffusion transformer that knows nothing of blocks and slots."""
    vector = model.time(time[:, :1].double()) + model.condition.prefix({"label": label})
    table = mixing_table(PICTURE, (1, 1), torch.device("cpu"), torch.float64)
    x = model.into(noisy)
    for block in model.blocks:
        attention, heads = block.attention, block.attention.heads  # type: ignore[union-attr]
        gates, scales, shifts = (
            block.modulation.linear(functional.silu(vector)).unflatten(-1, (3, 2, -1)).unbind(2)
        )
        read = block.norm(x) * (1 + scales[:, :, 0]) + shifts[:, :, 0]
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in attention.qkv(read).chunk(3, dim=-1)
        )
        query, key = attention.query_norm(query), attention.key_norm(key)
        query, key = mix_positions(query, table), mix_positions(key, table)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + gates[:, :, 0] * attention.out(mixed.transpose(1, 2).flatten(2))
        read = block.mlp_norm(x) * (1 + scales[:, :, 1]) + shifts[:, :, 1]
        x = x + gates[:, :, 1] * block.mlp(read)
    scale, shift = model.norm.modulation.linear(functional.silu(vector)).chunk(2, dim=-1)
    told: Tensor = model.output(model.norm.norm(x) * (1 + scale) + shift)
    return told


def test_one_block_tells_what_a_diffusion_transformer_tells() -> None:
    model = build(replace(CONFIG, block=16))
    noisy, time = given(PICTURE, 1), torch.full((1, 16), 300)
    expected = plain_transformer(model, noisy, time, torch.tensor([1]))
    block_wise = told(model, PICTURE, given(PICTURE), noisy, time)
    torch.testing.assert_close(block_wise, expected, rtol=1e-6, atol=1e-6)
    every = block_slots(model.config.blocks(PICTURE), (0, 1), (0, 1))
    seen = attention_mask(skip_causal, every, every)
    assert bool(seen[16:, 16:].all()) and not bool(seen[16:, :16].any())


def test_later_blocks_cost_what_the_second_one_does(case: tuple[ACDiT, Layout]) -> None:
    model, layout = build(replace(case[0].config, block=2, square=False)), case[1]
    read: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].place.shape[1]))
    generate(model, begin(model, layout, 1, Options()))
    steps = model.config.head.steps
    # the block before it, once, and a draft at every step of the solver
    assert read == [2] * steps + ([4] + [2] * (steps - 1)) * (len(layout) // 2 - 1)


def test_solver_steps_may_differ_by_row() -> None:
    model = build()
    alone = []
    for seed, steps in enumerate((2, 5)):
        model.head.inner_steps = lambda row, step, steps=steps: steps
        rows = begin(model, PICTURE, seed, Options())
        generate(model, rows)
        alone.append(drawn(rows))
    model.head.inner_steps = lambda row, step: 2 if row.condition["label"] == 0 else 5
    rows = [row for seed in (0, 1) for row in begin(model, PICTURE, seed, Options())]
    generate(model, rows)
    torch.testing.assert_close(drawn(rows), torch.cat(alone), rtol=1e-9, atol=1e-9)


def test_solver_steps_may_be_annealed() -> None:
    model, passes = build(), []
    model.register_forward_hook(lambda module, inputs, output: passes.append(output))
    annealing = StepAnnealing(6, 1)
    annealing.check_fits(model.head)
    generate(model, begin(model, PICTURE, 0, Options(annealing=annealing)))
    assert len(passes) == 6 + 4 + 2 + 1  # of four blocks


def test_the_loss_is_repeatable() -> None:
    model, tokens = build(), from_values(PICTURE, given(PICTURE))
    first = model.loss(tokens, label(1))
    assert torch.equal(first.total, model.loss(tokens, label(1)).total)
    other = model.loss(tokens, label(1), torch.Generator().manual_seed(3))
    assert other.total != first.total and set(first.parts) == {"mse"}
    # a fresh model's output is zero: it tells no noise
    fresh = ACDiT(CONFIG).loss(tokens, label(1)).total.detach()
    assert 0.7 < float(fresh) < 1.3


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("acdit-b", 130.31),
        ("acdit-l", 457.85),
        ("acdit-xl", 674.86),
        ("acdit-h", 950.96),
        ("acdit-xl-video", 673.82),
        ("acdit-h-video", 949.81),
    ],
)
def test_variants_have_the_published_counts(variant: str, count: float) -> None:
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert round(parameter_count(network) / 1e6, 2) == count


def test_official_weights_are_recognised() -> None:
    model = ACDiT(CONFIG)
    state = official.TABLE.to_official(model.state_dict())
    converter = detect(state)
    assert converter is official.ACDIT
    given_ = {"block": 4, "head.steps": 3}
    assert converter.config(state, given_) == CONFIG
    again = converter.build(CONFIG, state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_wrong_input_is_named() -> None:
    for layout, config in (
        (grid(4, 6, kind="values"), replace(CONFIG, block=16)),
        (grid(2, 2, 3, kind="values"), replace(CONFIG, block=8, square=False)),
    ):
        with pytest.raises(ConfigError, match=r"block=.* divi"):
            begin(ACDiT(config), layout, 0, Options())
    with pytest.raises(ConfigError, match=r"split=.*3 shares for 4 frame"):
        begin(ACDiT(replace(CONFIG, split=(1, 1))), CLIP, 0, Options())
    with pytest.raises(ConfigError, match="continuous vectors"):
        begin(ACDiT(CONFIG), PICTURE, 0, Options(), empty(PICTURE, codes=1))
    for wrong in (
        {"stack": StackConfig(64, 2, 2)},
        {"block": 5},
        {"split": (1, 2)},
        {"classes": 0},
        {"condition_dropout": 1.0},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(CONFIG, **wrong)
    with pytest.raises(ConfigError, match="steps=1000"):
        DenoisingConfig(1000)


@pytest.mark.slow
def test_it_learns_what_follows_from_clean_blocks() -> None:
    """All tokens of a sequence are one vector: later blocks can be told from earlier ones."""
    torch.manual_seed(0)
    model = ACDiT(replace(CONFIG, stack=StackConfig(64, 2, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    rng = torch.Generator().manual_seed(0)

    def some(count: int) -> Tokens:
        one = torch.randn(count, 1, WIDTH, generator=rng)
        return from_values(PICTURE, one.expand(-1, len(PICTURE), -1).clone())

    for _ in range(200):
        loss = model.loss(some(32), label(*[0] * 32), rng).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().requires_grad_(False)
    clean, block = some(64), CONFIG.blocks(PICTURE).step
    assert clean.values is not None
    time = torch.full((64, 16), 700)
    noise = torch.randn(64, 16, WIDTH, generator=rng)
    noisy = model.head.tables.add_noise(clean.values, time, noise)
    errors = []
    for context in (clean.values, clean.values.roll(1, 0)):
        tokens = from_values(PICTURE, context)
        error = (model.teach(tokens, label(*[0] * 64), noisy, time) - noise).square().mean(-1)
        errors.append(float(error[:, block > 0].mean()))
    assert errors[0] < 0.8 * errors[1]
