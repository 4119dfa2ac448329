"""E-CAR's mechanism: what stages read, memory, held tokens, and that it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError
from limner.core.layout import pyramid
from limner.core.noise import ReplayedNoise, SeededNoise
from limner.core.registry import MODELS
from limner.core.row import Options, Row
from limner.core.tokens import Tokens, empty, from_values
from limner.decoding import generate
from limner.heads.flow import FlowConfig, by_area
from limner.heads.guidance import Constant
from limner.heads.multistage import MultistageConfig, parents, stages
from limner.hub.build import blank, parameter_count
from limner.layers.flow_transformer import FlowTransformerConfig, TokenPlaces
from limner.layers.vision_transformer import StackConfig
from limner.models.ecar import ECAR, ECARConfig
from limner.models.flowar import FlowAR, FlowARConfig
from limner.tokenizers.latent_pyramids import ResampledLatents, as_tokens
from tests.models.together import drawn_together_and_alone

SCALES, WIDTH = (1, 2, 4), 3
LAYOUT = pyramid(tuple((side, side) for side in SCALES), kind="values")
CONFIG = ECARConfig(
    StackConfig(16, 2, 2),
    FlowTransformerConfig(16, 1, 8),
    MultistageConfig((3, 2, 2)),
    token_width=WIDTH,
    classes=5,
    scales=SCALES,
)


@pytest.fixture(scope="module")
def model() -> ECAR:
    """A float64 model whose weights are far from fresh, so that everything matters."""
    torch.manual_seed(0)
    model = ECAR(CONFIG).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def label(*numbers: int) -> dict[str, Tensor]:
    return {"label": torch.tensor(numbers)}


def given(rows: int, seed: int = 0) -> Tokens:
    rng = torch.Generator().manual_seed(seed)
    return as_tokens(torch.randn(rows, WIDTH, 4, 4, generator=rng, dtype=torch.float64), LAYOUT)


def begin(
    model: ECAR, seed: int, options: Options | None = None, tokens: Tokens | None = None
) -> list[Row]:
    tokens = tokens or empty(LAYOUT, width=WIDTH, dtype=torch.float64)
    return model.begin(tokens, label(seed % 5), options or Options(), SeededNoise(seed))


def drawn(rows: Sequence[Row]) -> Tensor:
    return torch.cat([row.tokens.values for row in rows if row.lead is None])  # type: ignore[misc]


def test_a_stage_is_told_by_coarser_stages_and_the_class_alone(model: ECAR) -> None:
    tokens, changed = given(1), given(1)
    assert changed.values is not None
    changed.values[:, 2] += 1.0  # of the second stage
    before, after = model.teach(tokens, label(1)), model.teach(changed, label(1))
    assert torch.equal(before[:, :5], after[:, :5])
    assert bool(((before - after)[:, 5:].abs().amax(-1) > 1e-9).all())
    assert torch.equal(model.teach(given(1, seed=9), label(1))[:, 0], before[:, 0])
    assert not torch.allclose(model.teach(tokens, label(2))[:, 0], before[:, 0])


def test_drawing_with_memory_gives_the_outputs_of_one_pass(model: ECAR) -> None:
    seen: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    rows = begin(model, 3, Options(Constant(2.0)))
    assert len(rows) == 2
    rows[1].noise = ReplayedNoise({})  # raises if it is asked for any
    generate(model, rows)
    hook.remove()
    known = from_values(LAYOUT, drawn(rows))
    whole = torch.cat([model.teach(known, label(3)), model.teach(known, label(5))])
    torch.testing.assert_close(torch.cat(seen, dim=1), whole, rtol=1e-9, atol=1e-9)


class Exact(nn.Module):
    """The velocity towards one picture; the noise is read off where a stage begins."""

    def __init__(self, clean: Tensor, config: MultistageConfig) -> None:
        super().__init__()
        self.clean, self.table = clean, stages(config)
        self.noise: list[Tensor] = []

    def forward(
        self, noisy: Tensor, time: Tensor, condition: Tensor, places: TokenPlaces
    ) -> Tensor:
        stage, token = self.table[int(places.segment()[0, 0])], places.token[0]
        clean, coarse = self.clean[:, token], self.clean[:, parents(LAYOUT)[token]]
        noise = (noisy - (1 - stage.start) * coarse) / stage.start
        self.noise.append(noise)
        return noisy - (stage.end * noise + (1 - stage.end) * clean)


def test_one_exact_step_a_stage_draws_the_picture() -> None:
    """Through the loop: every stage ends where training says, and jumps leave white noise."""
    config = MultistageConfig((1, 1, 1))
    model = ECAR(replace(CONFIG, multistage=config, solver="euler")).double().eval()
    clean = given(1).values
    assert clean is not None
    model.head.network = exact = Exact(clean, config)
    rows = [row for seed in range(300) for row in begin(model, seed)]
    with torch.no_grad():
        generate(model, rows)
    values = drawn(rows)
    for index, stage in enumerate(stages(config)):
        span, noise = LAYOUT.span(index), exact.noise[index]
        wanted = stage.end * noise + (1 - stage.end) * clean[:, span]
        torch.testing.assert_close(values[:, span], wanted, rtol=0, atol=1e-9)
        assert noise.std() == pytest.approx(1.0, abs=0.06)
        if index:
            parent = parents(LAYOUT)[span]
            alike = torch.einsum("bid,bjd->ij", noise, noise) / (len(noise) * WIDTH)
            siblings = (parent[:, None] == parent) & ~torch.eye(len(parent), dtype=torch.bool)
            assert alike[siblings].abs().max() < 0.12  # enlarged noise alone would give 1
    last = LAYOUT.span(2)
    torch.testing.assert_close(values[:, last], clean[:, last].expand(300, -1, -1))


def test_fewer_tokens_are_moved_than_by_flowar() -> None:
    """As often a scale, and far fewer than by as many steps at full size."""
    moved = {}
    flowar = FlowAR(
        FlowARConfig(
            16,
            1,
            1,
            heads=2,
            velocity=CONFIG.velocity,
            flow=FlowConfig(4),
            token_width=WIDTH,
            classes=5,
            scales=(1, 2, 4, 8),
        )
    )
    flowar.canvas = ResampledLatents()
    ecar = ECAR(replace(CONFIG, multistage=MultistageConfig((2, 2, 2)), scales=(2, 4, 8)))
    for name, model in (("flowar", flowar), ("e-car", ecar)):
        counts: list[int] = []
        assert model.head.network is not None
        model.head.network.register_forward_pre_hook(
            lambda module, inputs, counts=counts: counts.append(inputs[0].shape[1])
        )
        layout = pyramid(tuple((side, side) for side in model.config.scales), kind="values")
        rows = model.eval().begin(empty(layout, width=WIDTH), label(1), Options(), SeededNoise(0))
        with torch.no_grad():
            generate(model, rows)
        moved[name] = sum(counts)
    assert moved == {"flowar": 4 * 85, "e-car": 4 * 84}
    assert moved["e-car"] < 0.5 * 12 * 64


def test_rows_at_different_stages_draw_what_they_draw_alone(model: ECAR) -> None:
    options = (Options(Constant(2.0)), Options(), Options(Constant(1.5), temperature=0.8))
    pair = drawn_together_and_alone(
        model, lambda seed, option: begin(model, seed, option), drawn, options
    )
    torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)


def test_given_tokens_are_held_and_noised_as_their_stage_is(model: ECAR) -> None:
    clean = given(1).values
    assert clean is not None
    found = []
    for seed in range(300):
        tokens = given(1)
        tokens.known[0, 9:11] = False
        rows = begin(model, seed, tokens=tokens)
        found.append(rows[0].tokens.values)
    held = torch.cat([values for values in found if values is not None])
    ends = [stage.end for stage in stages(CONFIG.multistage)]
    for index, end in enumerate(ends):
        span = LAYOUT.span(index)
        off = held[:, span] - (1 - end) * clean[:, span]
        assert off.std() == pytest.approx(end, rel=0.1)
    generate(model, rows)
    same = (drawn(rows) == clean).all(-1)[0]
    assert bool(same[5:9].all()) and bool(same[11:].all()) and not same[9:11].any()


def test_the_loss_is_repeatable_and_weighs_by_area(model: ECAR) -> None:
    errors = torch.rand(2, 21)
    parts = [errors[:, LAYOUT.span(index)].mean() for index in range(3)]
    wanted = sum(part * side**2 / 16 for part, side in zip(parts, SCALES, strict=True))
    torch.testing.assert_close(by_area(errors, LAYOUT), wanted)
    first = model.loss(given(2), label(0, 1))
    assert torch.equal(first.total, model.loss(given(2), label(0, 1)).total)
    other = model.loss(given(2), label(0, 1), torch.Generator().manual_seed(3))
    assert other.total != first.total and set(first.parts) == {"mse", "still"}


def test_guidance_is_a_choice() -> None:
    assert ECAR(CONFIG).guidance == "constant"
    assert ECAR(replace(CONFIG, guided="ramp")).guidance == "ramp"


@pytest.mark.parametrize(("variant", "millions"), [("ecar-b", 195), ("ecar-l", 535)])
def test_variants_are_of_the_stated_sizes(variant: str, millions: int) -> None:
    entry = MODELS.get_variant(variant)
    network = blank(MODELS.get_family(entry.family), entry.config)
    assert round(parameter_count(network) / 1e6) == millions
    assert entry.published is None


def test_wrong_input_is_named() -> None:
    other = pyramid(((1, 1), (4, 4)), kind="values")
    with pytest.raises(ConfigError, match="scales"):
        ECAR(CONFIG).begin(empty(other, width=WIDTH), label(0), Options(), SeededNoise(0))
    with pytest.raises(ConfigError, match="continuous vectors"):
        ECAR(CONFIG).begin(empty(LAYOUT, codes=1), label(0), Options(), SeededNoise(0))
    for scales in ((1, 2), (1, 2, 5), (1, 2, 3)):
        with pytest.raises(ConfigError, match=r"scales=.* each twice"):
            replace(CONFIG, scales=scales)
    with pytest.raises(ConfigError, match="dropout"):
        replace(CONFIG, dropout=1.0)


@pytest.mark.slow
def test_it_learns_maps_of_one_colour() -> None:
    """The class tells the sign of a channel; another channel is random but the same everywhere."""
    torch.manual_seed(0)
    config = replace(
        CONFIG,
        stack=StackConfig(32, 2, 2),
        velocity=FlowTransformerConfig(32, 2, 8),
        multistage=MultistageConfig((3, 3, 3)),
        token_width=2,
        classes=2,
        dropout=0.0,
        attention_dropout=0.0,
    )
    model, rng = ECAR(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(200):
        kind, light = torch.randint(2, (2, 32), generator=rng)
        colour = torch.stack([2.0 * kind - 1, 2.0 * light - 1], dim=-1)
        maps = colour[..., None, None] + 0.1 * torch.randn(32, 2, 4, 4, generator=rng)
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 200)
        loss = model.loss(as_tokens(maps, LAYOUT), {"label": kind}, rng)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    model.eval()
    measured = model.loss(as_tokens(maps, LAYOUT), {"label": kind})
    assert measured.parts["mse"] < 0.7 * measured.parts["still"]
    rows = []
    for seed in range(32):
        rows += model.begin(empty(LAYOUT, width=2), label(seed % 2), Options(), SeededNoise(seed))
    generate(model, rows)
    fine = drawn(rows)[:, 5:]
    assert ((fine[..., 0].mean(1) > 0) == (torch.arange(32) % 2 == 1)).float().mean() > 0.9
    assert 0.2 < (fine[..., 1].mean(1) > 0).float().mean() < 0.8
    assert fine.std() == pytest.approx(1.0, rel=0.2) and fine.std(1).mean() < 0.4
