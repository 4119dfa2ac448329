"""Flow-matching head: the content of a step moves along a learned velocity from noise to data.

Lipman et al., "Flow Matching for Generative Modeling", arXiv:2210.02747; Liu et al., "Flow Straight
and Fast", arXiv:2209.03003. The way from noise e to data x is straight, x_t = (1 - t) x + t e, and
its velocity e - x is what is learned; time falls from 1 to 0 in sampling.

The velocity network may be one of three: a denoiser that sees a token at a time (`TokenVelocity`),
a transformer that sees all tokens of a scale (`limner.layers.flow_transformer`), or the generator
itself, which then reads the noisy tokens as a draft at every step of the solver (no network here).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.head import Drawn, LossBreakdown, Outputs, Turn
from limner.core.layout import Layout
from limner.core.order import Step
from limner.core.row import Row
from limner.heads.annealing import StepAnnealing
from limner.heads.solvers import SOLVERS, TIMES
from limner.heads.token_means import mean_of_tokens
from limner.layers.denoiser import Denoiser
from limner.layers.flow_transformer import TokenPlaces
from limner.layers.linear import packed

EVALUATION_SEED = 0
MOST_STEPS = 1000  # of an annealed walk; more would only cost

InnerSteps = Callable[[Row, Step], int]
"""How many solver steps a row takes at one of its steps."""

Field = Callable[[Tensor, Tensor, bool], Outputs]
"""(noisy [R, n, D], what the network is told of the time [R], whether null velocities are needed)
-> velocities of lead and null rows."""


@dataclass(frozen=True)
class SameCount:
    """The same number of solver steps at every step.

    Args:
        steps: that number.
    """

    steps: int

    def __call__(self, row: Row, step: Step) -> int:
        """Return the number."""
        return self.steps


@dataclass(frozen=True)
class FlowConfig:
    """Configuration of a flow head.

    Args:
        steps: of the solver.
        solver: "euler", "heun", "midpoint", or "euler-maruyama" (stochastic).
        times: where the steps lie: "uniform"; "flowar", half of them below 0.25; "late", up to 0.04
            and then to 0.
        guided_from: flow time from which on, as it falls, guidance applies; 1: all the way.
        clock: what the network is told of flow time t is `clock` t ...
        whole_clock: ... without its fraction.
    """

    steps: int = 25
    solver: Literal["euler", "heun", "midpoint", "euler-maruyama"] = "euler"
    times: Literal["uniform", "flowar", "late"] = "uniform"
    guided_from: float = 1.0
    clock: float = 1000.0
    whole_clock: bool = True

    def __post_init__(self) -> None:
        fits = self.steps >= self.least
        check(fits, "steps", self.steps, f"{self.least} or more with {self.times} times")
        check(self.clock > 0, "clock", self.clock, "above 0")
        fits = 0 <= self.guided_from <= 1
        check(fits, "guided_from", self.guided_from, "from 0 to 1")

    @property
    def least(self) -> int:
        """The fewest solver steps that its times can be cut into."""
        return 2 if self.times == "flowar" else 1


@dataclass(frozen=True, eq=False)
class Walk:
    """How a row walks at one of its steps.

    Args:
        times: float64 [S + 1], falling flow times.
        told: what the network is told at flow times 0 and 1; linear in between.
    """

    times: Tensor
    told: tuple[float, float] = (0.0, 1000.0)


class Path(Protocol):
    """Where the flow of a step begins, and how it is walked."""

    def start(self, turn: Turn, width: int) -> Tensor:
        """Return what the tokens of a turn are at time 1, float [R, n, width]."""
        ...

    def walk(self, row: Row, step: Step, steps: int) -> Walk:
        """Return how a row walks in so many solver steps."""
        ...


class NoisePath:
    """From white noise to clean tokens.

    Args:
        config: see `FlowConfig`.
    """

    def __init__(self, config: FlowConfig) -> None:
        self.config = config

    def start(self, turn: Turn, width: int) -> Tensor:
        """Return white noise, float64 [R, n, width]; a row's temperature is its deviation."""
        heat = torch.tensor([row.options.temperature for row in turn.rows], dtype=torch.float64)
        return heat.reshape(-1, 1, 1) * turn.noise("normal", "start", 0, (width,))

    def walk(self, row: Row, step: Step, steps: int) -> Walk:
        """Return the configured times."""
        return Walk(TIMES[self.config.times](steps), (0.0, self.config.clock))


class TokenVelocity(nn.Module):
    """A denoiser as a velocity network: tokens do not see each other.

    Args:
        token: D, width of a token.
        condition: width of the condition.
        width: of its blocks.
        depth: number of blocks.
    """

    def __init__(self, token: int, condition: int, width: int = 1024, depth: int = 6) -> None:
        super().__init__()
        self.denoiser = Denoiser(token, condition, token, width, depth)

    def forward(
        self, noisy: Tensor, time: Tensor, condition: Tensor, places: TokenPlaces | None = None
    ) -> Tensor:
        """Return velocities, float [R, n, D], of times [R, 1] or [R, n]."""
        guide = self.denoiser.time(time) + self.denoiser.condition(condition)
        velocity: Tensor = self.denoiser(noisy, guide)
        return velocity


class FlowHead(nn.Module):
    """Draws all tokens of a step by one flow.

    Args:
        token: D, width of a token.
        network: (noisy [R, n, D], time [R, 1 or n], condition [R, n, Z], places) -> velocity;
            None: the generator's outputs are velocities of the drafts it reads.
        config: see `FlowConfig`.
        path: None: from white noise.

    Attributes:
        inner_steps: how many solver steps a row takes that is not annealed; by default the
            configuration's number.
        solver_steps: least and most that an annealed row may take.
    """

    def __init__(
        self, token: int, network: nn.Module | None, config: FlowConfig, path: Path | None = None
    ) -> None:
        super().__init__()
        self.token = token
        self.network = network
        self.config = config
        self.path = path or NoisePath(config)
        self.inner_steps: InnerSteps = SameCount(config.steps)
        self.solver_steps = (config.least, MOST_STEPS)

    def told(self, time: Tensor, ends: tuple[Tensor | float, Tensor | float]) -> Tensor:
        """Return what the network is told of flow times, float32 of the same shape.

        Args:
            ends: what it is told at flow times 0 and 1.
        """
        last, first = ends
        told = last + (first - last) * time.float()
        return told.trunc() if self.config.whole_clock else told

    def velocity(
        self, noisy: Tensor, told: Tensor, condition: Tensor, places: TokenPlaces | None = None
    ) -> Tensor:
        """Return the network's velocities, float [R, n, D] of the dtype of `noisy`.

        Args:
            noisy: float [R, n, D].
            told: of the time, [R, 1] or [R, n].
            condition: float [R, n, Z].
            places: of the tokens, where the network asks for them.
        """
        assert self.network is not None
        told_of: Tensor = self.network(noisy.to(condition.dtype), told, condition, places)
        return told_of.to(noisy.dtype)

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
        places: TokenPlaces | None = None,
    ) -> LossBreakdown:
        """Return the loss at random times and noises.

        Args:
            outputs: float [B, n, Z].
            targets: float [B, n, D].
            rng: None: a fixed seed.
            weight: [B, n], which tokens count; None: all alike.
            places: of the tokens; those of one segment share a time. None: each has its own.
        """
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        time = random_times(targets, rng, places)
        noise = torch.randn(targets.shape, generator=rng, device=rng.device)
        error = self.errors(outputs, targets, time, noise, places)
        total = mean_of_tokens(error, weight)
        return LossBreakdown(total, {"mse": total.detach()})

    def errors(
        self,
        outputs: Tensor,
        targets: Tensor,
        time: Tensor,
        noise: Tensor,
        places: TokenPlaces | None = None,
    ) -> Tensor:
        """Return every token's squared error of the velocity from noise to data, float [B, n].

        Args:
            outputs: float [B, n, Z].
            targets: float [B, n, D].
            time: float [B, n], flow times.
            noise: float [B, n, D].
            places: of the tokens, where the network asks for them.
        """
        told = self.told(time, (0.0, self.config.clock))
        return self.errors_between(outputs, (noise, targets), time, told, places)

    def errors_between(
        self,
        outputs: Tensor,
        ends: tuple[Tensor, Tensor],
        time: Tensor,
        told: Tensor,
        places: TokenPlaces | None = None,
    ) -> Tensor:
        """Return every token's squared error of the velocity between given ends, float [B, n].

        Args:
            outputs: float [B, n, Z].
            ends: tokens at times 1 and 0, float [B, n, D].
            time: float [B, n], flow times.
            told: float [B, n], what the network is told of them.
            places: of the tokens, where the network asks for them.
        """
        wide = _wide(outputs.dtype)
        start, end = (part.to(outputs.device, wide) for part in ends)
        noisy = torch.lerp(end, start, time.to(start).unsqueeze(-1))
        velocity = self.velocity(noisy, told.to(outputs.device), outputs, places)
        return (velocity - (start - end)).square().mean(-1)

    def draw(self, turn: Turn) -> Drawn:
        """Draw all tokens of the turn; rows with fewer solver steps stand still at their end."""
        walks = [
            self.path.walk(row, step, self.count(row, step))
            for row, step in zip(turn.rows, turn.steps, strict=True)
        ]
        longest = max(len(walk.times) for walk in walks)
        padded = [
            torch.cat([walk.times, walk.times[-1:].expand(longest - len(walk.times))])
            for walk in walks
        ]
        last, first = torch.tensor([walk.told for walk in walks]).unbind(-1)
        field = self._backbone(turn) if self.network is None else self._network(turn)

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            guided = time <= self.config.guided_from
            outputs = field(x, self.told(time, (last, first)), bool(guided.any()))
            scales = outputs.scales.where(guided, torch.nan)
            return Outputs(outputs.lead, outputs.null, scales).guided()

        def noise(inner: int) -> Tensor:
            return turn.noise("normal", "solver", inner, (self.token,))

        start = self.path.start(turn, self.token).to(turn.device, self._dtype(turn))
        times, solver = torch.stack(padded, dim=1), SOLVERS[self.config.solver]
        if self.network is None:
            return Drawn(values=solver(velocity, start, times, noise))
        with packed(self.network, turn.tokens.numel()):
            return Drawn(values=solver(velocity, start, times, noise))

    def count(self, row: Row, step: Step) -> int:
        """Return how many solver steps a row takes."""
        annealing: StepAnnealing | None = row.options.annealing
        return self.inner_steps(row, step) if annealing is None else annealing.count(step)

    def _network(self, turn: Turn) -> Field:
        """The velocity network, told the generator's outputs once a step."""
        given = turn.evaluate()
        places = TokenPlaces(turn.rows[0].tokens.layout, turn.tokens)
        off = given.null is None or bool(given.scales.isnan().all())

        def field(noisy: Tensor, told: Tensor, guided: bool) -> Outputs:
            told = told.to(noisy.device).unsqueeze(-1)
            if off or given.null is None or not guided:
                return Outputs(self.velocity(noisy, told, given.lead, places), None, given.scales)
            noisy, told = torch.cat([noisy, noisy]), torch.cat([told, told])
            conditions = torch.cat([given.lead, given.null])
            lead, null = self.velocity(noisy, told, conditions, places.twice()).chunk(2)
            return Outputs(lead, null, given.scales)

        return field

    def _backbone(self, turn: Turn) -> Field:
        """The generator itself, which reads the draft at every step."""

        def field(noisy: Tensor, told: Tensor, guided: bool) -> Outputs:
            outputs = turn.evaluate(noisy, told.to(noisy.device))
            null = None if outputs.null is None else outputs.null.to(noisy.dtype)
            return Outputs(outputs.lead.to(noisy.dtype), null, outputs.scales)

        return field

    def _dtype(self, turn: Turn) -> torch.dtype:
        values = turn.rows[0].tokens.values
        assert values is not None
        return _wide(values.dtype)


def random_times(tokens: Tensor, rng: torch.Generator, places: TokenPlaces | None = None) -> Tensor:
    """Return flow times for tokens [B, n, D], uniform in 0 .. 1, float32 [B, n].

    Args:
        places: tokens of one segment share a time; None: each has its own.
    """
    if places is None:
        return torch.rand(tokens.shape[:2], generator=rng, device=rng.device)
    shared = (len(tokens), len(places.layout.segments))
    return torch.rand(shared, generator=rng, device=rng.device)[:, places.segment()[0]]


def by_area(errors: Tensor, layout: Layout) -> Tensor:
    """Return the sum over segments of their mean errors times their area, the last one's being 1.

    Args:
        errors: float [B, N], of every token: they all weigh alike.
    """
    return errors.sum(1).mean() / len(layout.segments[-1])


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Flows are computed in float32, or in float64 where the network is."""
    return torch.promote_types(dtype, torch.float32)
