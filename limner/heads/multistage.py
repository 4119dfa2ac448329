"""One flow in stages of growing size: each ends partly denoised and hands over to the next.

Jin et al., "Pyramidal Flow Matching for Efficient Video Generative Modeling", arXiv:2410.05954;
facts from diffusion_schedulers/scheduling_flow_matching.py of jy0205/Pyramid-Flow. E-CAR builds on
it (arXiv:2412.14170).

Within a stage x_r = r start + (1 - r) end with r falling from 1 to 0; both ends hold the same
noise. Enlarging a stage's result makes its noise alike within blocks of 2 x 2 places; what is added
at the jump has a covariance that makes it white again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check
from limner.core.head import Turn
from limner.core.layout import Layout
from limner.core.order import Step
from limner.core.row import Row
from limner.heads.flow import Walk


@dataclass(frozen=True)
class MultistageConfig:
    """Configuration of a flow in stages.

    Args:
        steps: of the solver, for every stage.
        ranges: shares of the noise levels at which stages begin and end; one more than stages.
        gamma: what is added at a jump has covariance -gamma in blocks, above 0 and at most 1 / 3
            (Pyramid-Flow). There its blocks have no mean: a network that reads the stage before
            knows that of the start, and pictures vary too little.
        chain: T, noise levels, and values of r in training.
        shift: of the noise levels towards noise (SD3, arXiv:2403.03206); 1: none.
    """

    steps: tuple[int, ...] = (5, 5, 5)
    ranges: tuple[float, ...] = (0.0, 1 / 3, 2 / 3, 1.0)
    gamma: float = 0.2
    chain: int = 1000
    shift: float = 1.0

    def __post_init__(self) -> None:
        fits = len(self.steps) > 0 and min(self.steps) > 0
        check(fits, "steps", self.steps, "one or more a stage")
        count = len(self.steps)
        accepted = f"rising numbers from 0 to 1, {count + 1} for the {count} stages of steps"
        rising = all(early < late for early, late in pairwise(self.ranges))
        fits = len(self.ranges) == count + 1 and self.ranges[0] == 0
        check(fits and rising and self.ranges[-1] == 1, "ranges", self.ranges, accepted)
        check(0 < self.gamma <= 1 / 3 + 1e-9, "gamma", self.gamma, "above 0 and at most 1/3")
        check(self.chain >= count, "chain", self.chain, "as many as stages or more")
        check(self.shift > 0, "shift", self.shift, "above 0")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        original: noise level it would start at without a jump.
        start: noise level after the jump.
        end: noise level at its end.
        keep: factor on the enlarged result of the stage before.
        add: factor on the block noise.
        share: where the stage begins and ends on the common clock, 0 to 1.
        told: what the network is told at r = 0 and r = 1.
    """

    original: float
    start: float
    end: float
    keep: float
    add: float
    share: tuple[float, float]
    told: tuple[float, float]


@lru_cache(maxsize=64)
def stages(config: MultistageConfig) -> tuple[Stage, ...]:
    """Return the stages, coarse to fine."""
    chain = config.chain
    levels = torch.arange(chain, 0, -1, dtype=torch.float32) / chain
    levels = config.shift * levels / (1 + (config.shift - 1) * levels)
    marks = [int(share * chain) for share in config.ranges]
    original = [float(levels[mark]) for mark in marks[:-1]]
    ends = [float(levels[mark]) if mark < chain else 0.0 for mark in marks[1:]]
    jumps = [(1.0, 0.0)] + [_jump(level, config.gamma) for level in original[1:]]
    starts = [original[0]] + [
        1 - keep * (1 - level) for (keep, _), level in zip(jumps[1:], original[1:], strict=True)
    ]
    lengths = [start - end for start, end in zip(starts, ends, strict=True)]
    cuts = [sum(lengths[:index]) / sum(lengths) for index in range(len(lengths))] + [1.0]
    clock = levels * chain
    told = [float(clock[min(int(cut * chain), chain - 1)]) for cut in cuts]
    return tuple(
        Stage(
            original[k],
            starts[k],
            ends[k],
            *jumps[k],
            (cuts[k], cuts[k + 1]),
            (told[k + 1], told[k]),
        )
        for k in range(len(lengths))
    )


def _jump(level: float, gamma: float) -> tuple[float, float]:
    """Return the factors on what was and on block noise that lead to a stage of this level."""
    keep = 1 / (math.sqrt(1 + 1 / gamma) * level + 1 - level)
    return keep, keep * level / math.sqrt(gamma)


def block_noise(white: Tensor, gamma: float) -> Tensor:
    """Return noise of variance 1 and covariance -gamma within blocks of 2 x 2 places.

    Args:
        white: white noise, float [B, D, h, w].
    """
    mean = enlarged(functional.avg_pool2d(white, 2))
    return math.sqrt(1 + gamma) * (white - mean) + math.sqrt(max(0.0, 1 - 3 * gamma)) * mean


def _block_noise_tokens(white: Tensor, size: tuple[int, ...], gamma: float) -> Tensor:
    """Return the block noise of white noise given as tokens, float [B, h w, D], of size (h, w)."""
    maps = white.transpose(1, 2).unflatten(2, size)
    return block_noise(maps, gamma).flatten(2).transpose(1, 2)


def enlarged(maps: Tensor) -> Tensor:
    """Return maps [B, D, h, w] of twice the size, every number four times."""
    return maps.repeat_interleave(2, -2).repeat_interleave(2, -1)


@lru_cache(maxsize=64)
def parents(layout: Layout) -> Tensor:
    """Return for every token the one of the stage before that it comes from, int64 [N].

    Tokens of the first stage name themselves. Do not write to it.
    """
    place, segment = layout.coordinates(), layout.segment_of()
    found = torch.arange(len(layout))
    for index in range(1, len(layout.segments)):
        own, before = segment == index, layout.segments[index - 1].size
        row, column = place[own, 2] // 2, place[own, 3] // 2
        found[own] = layout.span(index - 1).start + row * before[2] + column
    return found


def noise_along(white: Tensor, layout: Layout, gamma: float) -> Tensor:
    """Return the noise of all stages as jumps make it, every stage's from the one's before.

    Dividing a jump, keep (end noise + ..) + add block noise, by the level it leads to leaves

        noise_k = sqrt(gamma / (1 + gamma)) enlarged(noise_k-1) + sqrt(1 / (1 + gamma)) block noise

    whatever the levels are: white within a stage, but not from stage to stage.

    Args:
        white: white noise, of the first stage and of every jump, float [B, N, D].
    """
    made = [white[:, layout.span(0)]]
    parent = parents(layout).to(white.device)
    for index in range(1, len(layout.segments)):
        span, size = layout.span(index), layout.segments[index].size[1:]
        added = _block_noise_tokens(white[:, span], size, gamma)
        before = made[-1][:, parent[span] - layout.span(index - 1).start]
        made.append(math.sqrt(gamma / (1 + gamma)) * before + added / math.sqrt(1 + gamma))
    return torch.cat(made, dim=1)


def ends(
    clean: Tensor, noise: Tensor, layout: Layout, config: MultistageConfig
) -> tuple[Tensor, Tensor]:
    """Return where tokens stand at the start and at the end of their stages, float [B, N, D] each.

    Args:
        clean: the averaged latents of all stages, float [B, N, D].
        noise: of all stages, float [B, N, D], see `noise_along`.
    """
    table = stages(config)
    segment = layout.segment_of()
    start, end = (
        torch.tensor([getattr(stage, name) for stage in table])[segment, None].to(clean)
        for name in ("start", "end")
    )
    coarse = clean[:, parents(layout).to(clean.device)]
    return start * noise + (1 - start) * coarse, end * noise + (1 - end) * clean


def ratios(uniform: Tensor, chain: int) -> Tensor:
    """Return r for uniform numbers in 0 .. 1, rounded down to one of `chain` steps."""
    return 1 - (uniform * chain).floor() / chain


@dataclass(frozen=True)
class StageSteps:
    """Solver steps by stage.

    Args:
        steps: of every stage.
    """

    steps: tuple[int, ...]

    def __call__(self, row: Row, step: Step) -> int:
        """Return those of the stage that is drawn."""
        return self.steps[step.index]


class MultistagePath:
    """From noise, or the stage before, to a result that is partly denoised but for the last stage.

    Args:
        config: see `MultistageConfig`.
    """

    def __init__(self, config: MultistageConfig) -> None:
        self.config = config

    def start(self, turn: Turn, width: int) -> Tensor:
        """Return what the tokens begin with, float [R, n, width]; a row's noise times its heat."""
        noise = turn.noise("normal", "start", 0, (width,))
        for index, (row, step) in enumerate(zip(turn.rows, turn.steps, strict=True)):
            part = row.options.temperature * noise[index, : len(step.draw)]
            noise[index, : len(step.draw)] = self._jumped(row, step, part)
        return noise

    def _jumped(self, row: Row, step: Step, white: Tensor) -> Tensor:
        """Return the start of one row's stage, float [n, width]."""
        if step.index == 0:
            return white
        stage, layout = stages(self.config)[step.index], row.tokens.layout
        size = layout.segments[step.index].size[1:]
        added = _block_noise_tokens(white.unsqueeze(0), size, self.config.gamma)[0]
        assert row.tokens.values is not None
        before = row.tokens.values[0].cpu().to(white)[parents(layout)[step.draw]]
        return stage.keep * before + stage.add * added

    def walk(self, row: Row, step: Step, steps: int) -> Walk:
        """Return falling r, from 1 to 1 / chain and then to 0."""
        return self.stage_walk(step.index, steps)

    def stage_walk(self, index: int, steps: int) -> Walk:
        """Return how a stage is walked in so many steps."""
        falling = torch.linspace(1.0, 1 / self.config.chain, steps, dtype=torch.float64)
        return Walk(torch.cat([falling, falling.new_zeros(1)]), stages(self.config)[index].told)
