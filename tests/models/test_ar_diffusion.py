"""AR-Diffusion's mechanism: who sees whom, staircases, windows, given frames; it learns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from limner.conditions.contexts import ContextCondition
from limner.core.errors import ConfigError
from limner.core.layout import Layout, grid
from limner.core.memory import NoMemory
from limner.core.noise import ReplayedNoise, SeededNoise
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.row import Options, Row
from limner.core.tokens import Tokens, empty, from_values
from limner.decoding import advance, generate
from limner.heads.guidance import Constant
from limner.hub.build import blank, parameter_count
from limner.hub.convert import detect
from limner.hub.official import ar_diffusion as official
from limner.layers.vision_transformer import StackConfig
from limner.models.ar_diffusion import ARDiffusion, ARDiffusionConfig

WIDTH = 3
CONFIG = ARDiffusionConfig(
    StackConfig(16, 2, 2),
    frames=4,
    frame_tokens=3,
    token_width=WIDTH,
    context=5,
    context_width=6,
    steps=5,
    lag=2,
)
CLIP = grid(1, 3, 4, kind="values", role="register")
LONG = grid(1, 3, 7, kind="values", role="register")


def build(**changes: object) -> ARDiffusion:
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = ARDiffusion(replace(CONFIG, **changes)).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def given(layout: Layout = CLIP, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(1, len(layout), WIDTH, generator=rng, dtype=torch.float64)


def label(number: int = 0) -> dict[str, Tensor]:
    return {"label": torch.tensor([number])}


def begin(
    model: ARDiffusion,
    layout: Layout = CLIP,
    seed: int = 0,
    options: Options | None = None,
    tokens: Tokens | None = None,
) -> list[Row]:
    tokens = tokens or empty(layout, width=WIDTH, dtype=torch.float64)
    return model.begin(tokens, label(), options or Options(), SeededNoise(seed))


def drawn(rows: list[Row]) -> Tensor:
    return torch.cat([row.tokens.values for row in rows if row.lead is None])  # type: ignore[misc]


def told(model: ARDiffusion, noisy: Tensor) -> Tensor:
    time = torch.tensor([[10, 200, 500, 900]]).repeat_interleave(3, 1)
    return model.teach(from_values(CLIP, given()), label(), noisy, time)


@pytest.mark.parametrize(
    "changes", [{"stack": StackConfig(16, 1, 2)}, {"open_context": False, "rotary": True}]
)
def test_frames_are_told_by_themselves_and_earlier_ones(changes: dict[str, object]) -> None:
    model = build(**changes)
    noisy, other = given(seed=1), given(seed=1)
    other[:, 6:9] += 1  # the third frame
    before, after = told(model, noisy), told(model, other)
    assert torch.equal(before[:, :6], after[:, :6])
    assert bool(((before - after)[:, 6:].abs().amax(-1) > 1e-9).all())


def test_an_open_context_lets_later_frames_through() -> None:
    model = build()
    noisy, other = given(seed=1), given(seed=1)
    other[:, 9:] += 1
    assert not torch.allclose(told(model, noisy)[:, :3], told(model, other)[:, :3])


def test_all_frames_together_are_an_ordinary_solver() -> None:
    model = build(lag=0)
    rows = begin(model, seed=3)
    x = rows[0].tokens.values
    generate(model, rows)
    assert x is not None
    share = torch.cumprod(1 - torch.linspace(1e-2, 0.02**0.5, 1000).double().square(), 0)
    times = [801, 601, 401, 201, 1, 0]
    start = SeededNoise(3).normal("start", torch.arange(12), 0, (WIDTH,)).unsqueeze(0)
    x = start
    for now, then in pairwise(times):
        time = torch.full((1, 12), now)
        clean = model.teach(from_values(CLIP, x), label(), x, time)
        noise = (x - share[now].sqrt() * clean) / (1 - share[now]).sqrt()
        x = share[then].sqrt() * clean + (1 - share[then]).sqrt() * noise
    torch.testing.assert_close(drawn(rows), x, rtol=1e-5, atol=1e-5)


def test_frames_come_one_after_the_other_and_are_known_when_clean() -> None:
    model = build(lag=5)
    rows = begin(model)
    memory = model.memory(rows)
    memory.admit(rows)
    finished = []
    while advance(model, rows, memory):
        finished.append(int(rows[0].tokens.known.sum()) // 3)
    assert finished == [*[frame for frame in range(4) for _ in range(5)][1:], 4]


def test_long_clips_are_read_through_a_window() -> None:
    model = build(lag=2)
    seen: list[int] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    rows = begin(model, LONG)
    generate(model, rows)
    hook.remove()
    assert set(seen) == {12} and len(seen) == 5 + 6 * 2
    assert bool(rows[0].tokens.known.all())


def test_given_frames_are_kept_and_read() -> None:
    model = build()
    clip = given(seed=4)
    known = (torch.arange(12) < 6).unsqueeze(0)
    rows = begin(model, tokens=Tokens(CLIP, None, clip.clone(), known))
    generate(model, rows)
    assert torch.equal(drawn(rows)[:, :6], clip[:, :6])
    other = clip + 1
    rows_of_other = begin(model, tokens=Tokens(CLIP, None, other, known))
    generate(model, rows_of_other)
    assert not torch.allclose(drawn(rows)[:, 6:], drawn(rows_of_other)[:, 6:])


def test_rows_draw_what_they_draw_alone() -> None:
    model = build()
    options = (Options(Constant(2.0)), Options(), Options(Constant(1.5), temperature=0.8))
    alone, everyone = [], []
    for seed, option in enumerate(options):
        rows = begin(model, LONG, seed, option)
        generate(model, rows)
        alone.append(drawn(rows))
    memory = NoMemory()
    for seed, option in enumerate(options):
        everyone += begin(model, LONG, seed, option)
        memory.admit(everyone)
        advance(model, everyone, memory)
    while advance(model, everyone, memory):
        pass
    torch.testing.assert_close(drawn(everyone), torch.cat(alone), rtol=1e-9, atol=1e-9)


def test_null_rows_read_zeros_or_the_first_class() -> None:
    one = ContextCondition(0, 2, 3)
    assert bool((one.vectors(one.null(label())) == 0).all())
    assert torch.equal(one.vectors(label())[0], one.table[0])
    many = ContextCondition(4, 2, 3)
    assert many.null(label(3))["label"].tolist() == [0] and many.table.shape == (5, 2, 3)
    assert many.ask(Request(1, labels=[3]))["label"].tolist() == [3]
    assert not one.table.requires_grad
    rows = build().begin(
        empty(CLIP, width=WIDTH, dtype=torch.float64),
        label(),
        Options(Constant(2.0)),
        SeededNoise(0),
    )
    assert rows[1].condition["label"].tolist() == [1]
    rows[1].noise = ReplayedNoise({})  # raises if it is asked for any
    generate(build(), rows)


def test_the_loss_is_repeatable() -> None:
    model, tokens = build(), from_values(CLIP, given())
    first = model.loss(tokens, label())
    assert torch.equal(first.total, model.loss(tokens, label()).total)
    other = model.loss(tokens, label(), torch.Generator().manual_seed(3))
    assert other.total != first.total and set(first.parts) == {"mse"}


@pytest.mark.parametrize("variant", ["ar-diffusion", "ar-diffusion-ucf101"])
def test_variants_have_the_published_counts(variant: str) -> None:
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert parameter_count(network) == entry.published
    trained = sum(part.numel() for part in network.parameters() if part.requires_grad)
    assert trained == 671_864_836


@pytest.mark.parametrize("changes", [{}, {"classes": 3, "rotary": True, "head_norm": True}])
def test_official_weights_are_recognised(changes: dict[str, object]) -> None:
    model = build(**changes)
    converter = official.AR_DIFFUSION
    state = converter.table(model.config).to_official(model.state_dict())
    if not model.config.rotary:
        state["diffusion_model.model.pos_embed"] = torch.zeros(1, 12, 16)
    state["diffusion_model.betas"] = torch.zeros(1000)
    assert detect(state) is converter
    told_ = {"stack.heads": 2, "frames": 4, "frame_tokens": 3, "steps": 5, "lag": 2}
    assert converter.config(state, told_) == model.config
    again = converter.build(model.config, state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_wrong_input_is_named() -> None:
    short = grid(1, 3, 3, kind="values")
    with pytest.raises(ConfigError, match=r"frames=3 .*4 or more"):
        begin(build(), short)
    with pytest.raises(ConfigError, match=r"frame_tokens=2 .*3 a frame"):
        begin(build(), grid(1, 2, 4, kind="values"))
    with pytest.raises(ConfigError, match="continuous vectors"):
        build().begin(empty(CLIP, codes=1), label(), Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match=r"lag=1 .*2 or more"):
        begin(build(lag=1), LONG)
    with pytest.raises(ConfigError, match="steps=7"):
        begin(build(), options=Options(steps=7))
    later = (torch.arange(12) >= 9).unsqueeze(0)
    with pytest.raises(ConfigError, match="whole frames"):
        begin(build(), tokens=Tokens(CLIP, None, given(), later))
    with pytest.raises(ConfigError, match="frames=7"):
        build().loss(from_values(LONG, given(LONG)), label())
    for wrong in ({"lag": 6}, {"steps": 7}, {"frame_tokens": 0}, {"betas": (0.2, 0.1)}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(CONFIG, **wrong)
    with pytest.raises(ConfigError, match="classes are not accepted"):
        ContextCondition(0, 2, 3).ask(Request(1, labels=[0]))
    with pytest.raises(ConfigError, match="class=4"):
        ContextCondition(4, 2, 3).ask(Request(1, labels=[4]))


@pytest.mark.slow
def test_it_learns_clips_that_stand_still() -> None:
    """All frames of a clip are one random direction: later frames follow from clean first ones."""
    torch.manual_seed(0)
    model = ARDiffusion(replace(CONFIG, stack=StackConfig(48, 2, 2)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    rng = torch.Generator().manual_seed(0)

    def some(count: int) -> Tokens:
        one = torch.randn(count, 1, WIDTH, generator=rng)
        return from_values(CLIP, (one / one.norm(dim=-1, keepdim=True)).repeat(1, 12, 1))

    labels = {"label": torch.zeros(64, dtype=torch.int64)}
    for _ in range(200):
        loss = model.loss(some(64), labels, rng).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().requires_grad_(False)
    first = some(32)
    known = (torch.arange(12) < 3).expand(32, -1)
    assert first.values is not None
    rows = []
    for index in range(32):
        tokens = Tokens(CLIP, None, first.values[index : index + 1], known[index : index + 1])
        rows += model.begin(tokens.clone(), label(), Options(), SeededNoise(index))
    generate(model, rows)
    right = torch.nn.functional.cosine_similarity(drawn(rows), first.values, dim=-1)
    assert float(right[:, 3:].mean()) > 0.8
