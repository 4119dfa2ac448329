"""The flow head: exact fields end in known distributions, and a network learns them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError
from limner.core.head import Outputs
from limner.core.layout import Layout, grid, pyramid
from limner.core.noise import SeededNoise
from limner.core.order import Step
from limner.core.row import Options, Row
from limner.core.tokens import empty
from limner.heads.flow import FlowConfig, FlowHead, TokenVelocity, random_times
from limner.heads.guidance import Constant
from limner.layers.flow_transformer import FlowTransformer, FlowTransformerConfig, TokenPlaces
from limner.orders import scales

MODES, SPREAD = (-1.0, 2.0), 0.3
WEIGHTS = (0.25, 0.75)


def mixture_velocity(x: Tensor, t: Tensor) -> Tensor:
    """The velocity of the flow to a mixture of two normal distributions, one a channel."""
    modes = torch.tensor(MODES).to(x)
    variance = ((1 - t) * SPREAD) ** 2 + t**2
    off = x.unsqueeze(-1) - (1 - t).unsqueeze(-1) * modes
    logits = torch.tensor(WEIGHTS).to(x).log() - off.square() / (2 * variance.unsqueeze(-1))
    share = logits.softmax(-1)
    scaled = off / variance.unsqueeze(-1)
    data = modes + (1 - t).unsqueeze(-1) * SPREAD**2 * scaled
    return (share * (t.unsqueeze(-1) * scaled - data)).sum(-1)


def distance(drawn: Tensor) -> float:
    """The largest difference between the drawn numbers' distribution function and the target's."""
    ordered = drawn.flatten().double().sort().values
    wanted = sum(
        weight * 0.5 * (1 + torch.erf((ordered - mode) / (SPREAD * 2**0.5)))
        for weight, mode in zip(WEIGHTS, MODES, strict=True)
    )
    rank = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
    return float(torch.maximum((rank[1:] - wanted).abs(), (wanted - rank[:-1]).abs()).max())


def chance(count: int, doubt: float = 1e-9) -> float:
    """What that difference exceeds by chance with probability `doubt` (Massart's inequality)."""
    return math.sqrt(math.log(2 / doubt) / (2 * count))


class Told(nn.Module):
    """The exact velocity as a network; the condition is added to it."""

    def forward(
        self, noisy: Tensor, time: Tensor, condition: Tensor, places: TokenPlaces
    ) -> Tensor:
        t = (time / 1000).to(noisy).unsqueeze(-1)
        return mixture_velocity(noisy, t.expand(*noisy.shape[:2], 1)) + condition


class Turn:
    """Rows that draw n tokens of width D each; outputs are given, or velocities of the draft."""

    def __init__(
        self,
        lead: Tensor,
        null: Tensor | None = None,
        scales: Sequence[float] = (math.nan,),
        temperature: float = 1.0,
        layout: Layout | None = None,
        steps: Sequence[Step] | None = None,
    ) -> None:
        rows, count, width = lead.shape
        layout = layout or grid(1, count, kind="values")
        order = scales_of(layout)
        self.given = Outputs(lead, null, torch.tensor(scales).double().expand(rows))
        options = Options(Constant(2.0), temperature=temperature)
        self.rows = [
            Row(empty(layout, width=width, dtype=lead.dtype), order, SeededNoise(row), {}, options)
            for row in range(rows)
        ]
        self.steps = list(steps or [order.steps[0]] * rows)
        self.tokens = torch.full((rows, count), -1)
        for row, step in enumerate(self.steps):
            self.tokens[row, : len(step.draw)] = step.draw
        self.device = lead.device
        self.levels: list[Tensor] = []

    def evaluate(self, draft: Tensor | None = None, level: Tensor | None = None) -> Outputs:
        if draft is None:
            return self.given
        assert level is not None
        self.levels.append(level)
        network = Told()
        lead = network(draft, level.unsqueeze(1), self.given.lead, None)  # type: ignore[arg-type]
        null = self.given.null
        if null is not None:
            null = network(draft, level.unsqueeze(1), null, None)  # type: ignore[arg-type]
        return Outputs(lead, null, self.given.scales)

    def noise(self, kind: str, purpose: str, inner: int = 0, shape: tuple[int, ...] = ()) -> Tensor:
        drawn = torch.full((*self.tokens.shape, *shape), 0.5, dtype=torch.float64)
        for index, (row, step) in enumerate(zip(self.rows, self.steps, strict=True)):
            numbers = getattr(row.noise, kind)(purpose, step.draw, inner, shape)
            drawn[index, : len(step.draw)] = numbers
        return drawn


def scales_of(layout: Layout):  # type: ignore[no-untyped-def]
    return scales(layout)


def zeros(rows: int = 1, count: int = 4, width: int = 2) -> Tensor:
    return torch.zeros(rows, count, width, dtype=torch.float64)


def drawn(head: FlowHead, turn: Turn) -> Tensor:
    values = head.draw(turn).values
    assert values is not None
    return values


@pytest.mark.parametrize("backbone", [False, True])
@pytest.mark.parametrize(
    ("solver", "times", "steps", "slack"),
    [
        ("euler", "uniform", 400, 0.01),
        ("heun", "uniform", 60, 0.01),
        ("euler-maruyama", "late", 250, 0.02),
    ],
)
def test_an_exact_velocity_ends_in_the_known_distribution(
    solver: str, times: str, steps: int, slack: float, backbone: bool
) -> None:
    """Bound: chance for 20,000 draws (0.023, once in a billion) and the solver's own error."""
    config = FlowConfig(steps, solver, times, whole_clock=False)  # type: ignore[arg-type]
    head = FlowHead(1, None if backbone else Told(), config)
    assert distance(drawn(head, Turn(zeros(1, 20_000, 1)))) < chance(20_000) + slack


def test_a_network_learns_a_distribution_by_condition() -> None:
    """Two conditions mirror the mixture. Bound on the distribution function: 0.08."""
    torch.manual_seed(0)
    head = FlowHead(1, TokenVelocity(1, 1, 48, 2), FlowConfig(30, "heun", whole_clock=False))
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    rng = torch.Generator().manual_seed(0)
    count, steps = 512, 400
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        sign = torch.randint(2, (1, count, 1), generator=rng) * 2.0 - 1
        mode = torch.where(torch.rand(1, count, 1, generator=rng) < WEIGHTS[0], *MODES)
        tokens = mode + SPREAD * torch.randn(1, count, 1, generator=rng)
        loss = head.loss(sign, sign * tokens, rng).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for sign in (-1.0, 1.0):
            found = drawn(head, Turn(torch.full((1, 4000, 1), sign)))
            assert distance(sign * found) < 0.08
            assert distance(-sign * found) > 0.3


def test_the_backbone_is_told_the_time_and_the_first_call_commits() -> None:
    turn = Turn(zeros())
    drawn(FlowHead(2, None, FlowConfig(4)), turn)
    assert [level.tolist() for level in turn.levels] == [[1000.0], [750.0], [500.0], [250.0]]


def test_times_are_told_without_their_fraction() -> None:
    head = FlowHead(1, None, FlowConfig())
    times = torch.tensor([0.9364, 0.68, 1.0, 0.0], dtype=torch.float64)
    assert head.told(times, (0.0, 1000.0)).tolist() == [936.0, 680.0, 1000.0, 0.0]
    exact = FlowHead(1, None, FlowConfig(whole_clock=False)).told(times, (0.0, 1000.0))
    assert exact.tolist() == pytest.approx([936.4, 680.0, 1000.0, 0.0])


@pytest.mark.parametrize("backbone", [False, True])
def test_guidance_begins_at_its_time(backbone: bool) -> None:
    lead, null = zeros() + 0.3, zeros() - 0.2
    network = None if backbone else Told()

    def at(guided_from: float, scale: float, other: Tensor | None = null) -> Tensor:
        head = FlowHead(2, network, FlowConfig(8, guided_from=guided_from))
        return drawn(head, Turn(lead, other, [scale]))

    plain = at(1.0, 3.0, None)
    torch.testing.assert_close(at(1.0, 1.0), plain)
    torch.testing.assert_close(at(1.0, math.nan), plain)
    assert not torch.allclose(at(1.0, 3.0), plain, atol=1e-3)
    partly = at(0.5, 3.0)
    assert not torch.allclose(partly, plain, atol=1e-3)
    assert not torch.allclose(partly, at(1.0, 3.0), atol=1e-3)


def test_rows_may_take_different_numbers_of_steps() -> None:
    def found(rows: int) -> Tensor:
        head = FlowHead(2, Told(), FlowConfig(8))
        head.inner_steps = lambda row, step: 3 if row.noise.seed == 0 else 8  # type: ignore[attr-defined]
        return drawn(head, Turn(zeros(rows)))

    torch.testing.assert_close(found(2)[:1], found(1))
    assert not torch.allclose(
        found(2)[:1], drawn(FlowHead(2, Told(), FlowConfig(8)), Turn(zeros()))
    )


def test_temperature_is_the_deviation_of_the_first_noise() -> None:
    head = FlowHead(1, Told(), FlowConfig(50))
    cold = drawn(head, Turn(zeros(1, 50, 1), temperature=0.0))
    assert bool((cold == cold[:, :1]).all())
    assert drawn(head, Turn(zeros(1, 50, 1))).std() > 0.5


def test_tokens_of_other_segments_are_not_seen() -> None:
    layout = pyramid(((1, 1), (2, 2), (4, 4)), kind="values")
    torch.manual_seed(0)
    for cross in (False, True):
        config = FlowTransformerConfig(16, 2, 8, cross=cross)
        network = FlowTransformer(3, 5, config).double().requires_grad_(False)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
        noisy, condition = torch.randn(2, 21, 3).double(), torch.randn(2, 21, 5).double()
        time = random_times(noisy, torch.Generator().manual_seed(0), all_places(layout)) * 1000
        together = network(noisy, time, condition, all_places(layout))
        for segment in range(3):
            span = layout.span(segment)
            places = TokenPlaces(layout, torch.arange(21)[span].unsqueeze(0))
            alone = network(noisy[:, span], time[:, span], condition[:, span], places)
            torch.testing.assert_close(together[:, span], alone)
        moved = noisy.clone()
        moved[:, 5] += 1
        change = (network(moved, time, condition, all_places(layout)) - together).abs().amax((0, 2))
        assert bool((change[5:] > 1e-6).all()) and bool((change[:5] == 0).all())


def all_places(layout: Layout) -> TokenPlaces:
    return TokenPlaces(layout, torch.arange(len(layout)).unsqueeze(0))


def test_tokens_of_a_segment_share_a_time() -> None:
    layout = pyramid(((1, 1), (2, 2)), kind="values")
    tokens, rng = torch.zeros(50, 5, 1), torch.Generator().manual_seed(0)
    times = random_times(tokens, rng, all_places(layout))
    assert bool((times[:, 1:] == times[:, 1:2]).all())
    assert bool((times[:, 0] != times[:, 1]).all())
    apart = random_times(tokens, rng)
    assert len(apart.unique()) == 250


def test_rows_at_different_scales_draw_what_they_draw_alone() -> None:
    layout = pyramid(((1, 1), (2, 2)), kind="values")
    torch.manual_seed(0)
    network = FlowTransformer(2, 2, FlowTransformerConfig(16, 1, 8, cross=True)).double()
    for parameter in network.requires_grad_(False).parameters():
        nn.init.normal_(parameter, std=0.3)
    head = FlowHead(2, network, FlowConfig(4))
    one, four = scales(layout).steps
    lead, null = torch.randn(2, 2, 4, 2).double()
    both = drawn(head, Turn(lead, null, [2.0], layout=layout, steps=[four, one]))
    first = drawn(head, Turn(lead[:1], null[:1], [2.0], layout=layout, steps=[four]))
    torch.testing.assert_close(both[:1], first)
    alone = Turn(lead[1:, :1], null[1:, :1], [2.0], layout=layout, steps=[one])
    alone.rows[0].noise = SeededNoise(1)
    torch.testing.assert_close(both[1:, :1], drawn(head, alone))


def test_the_loss_without_a_generator_is_repeatable_and_weights_count() -> None:
    head = FlowHead(2, TokenVelocity(2, 3, 16, 1), FlowConfig())
    outputs, targets = torch.randn(2, 4, 3), torch.randn(2, 4, 2)
    first = head.loss(outputs, targets).total
    assert torch.equal(first, head.loss(outputs, targets).total)
    assert first != head.loss(outputs, targets, torch.Generator().manual_seed(5)).total
    weight = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0]])
    rng = torch.Generator().manual_seed(0)
    time = random_times(targets, rng)
    noise = torch.randn(targets.shape, generator=rng)
    errors = head.errors(outputs, targets, time, noise)
    found = head.loss(outputs, targets, None, weight).total
    torch.testing.assert_close(found, (errors[0, 0] + errors[1, 1]) / 2)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 1, "times": "flowar"}, "steps=1"),
        ({"guided_from": 1.5}, "guided_from"),
        ({"clock": 0}, "clock"),
    ],
)
def test_impossible_configurations_are_refused(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        FlowConfig(**fields)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="head_width"):
        FlowTransformerConfig(64, head_width=48)
