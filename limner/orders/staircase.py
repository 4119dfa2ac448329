"""AR-Diffusion's sampling: frames are denoised in a staircase, earlier ones first.

Sun et al., "AR-Diffusion: Asynchronous Video Generation with Auto-Regressive Diffusion",
arXiv:2503.07418; facts from src/ardiff/modules/fifoddim.py of iva-mzsun/AR-Diffusion.

A frame starts some steps after the one before it: with a lag of 0 all frames are denoised
together, with a lag of all steps one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.order import Step
from limner.core.row import Row
from limner.core.slots import Slots

CHAIN = 1000
"""Steps of the full chain; the last one stands for frames that have not started."""


@dataclass(frozen=True)
class Stairs:
    """How frames are denoised.

    Args:
        frames: of the clip.
        window: frames that the network reads at once; it slides over longer clips.
        steps: S, of each frame; a divisor of the chain.
        lag: steps by which a frame starts after the one before it, from 0 to S.
        given: frames at the beginning that are known.
    """

    frames: int
    window: int
    steps: int
    lag: int
    given: int = 0

    def __post_init__(self) -> None:
        accepted = f"a divisor of {CHAIN} below it"
        check(0 < self.steps < CHAIN and CHAIN % self.steps == 0, "steps", self.steps, accepted)
        check(0 <= self.lag <= self.steps, "lag", self.lag, f"from 0 to the {self.steps} steps")
        fits = 0 < self.window <= self.frames
        check(fits, "frames", self.frames, f"at least the window of {self.window} frames")

    @property
    def finishes(self) -> bool:
        """Whether every frame is clean before the window leaves it."""
        return self.frames == self.window or self.window * self.lag >= self.steps


def ddim_timesteps(steps: int) -> Tensor:
    """Return the steps of the chain that a frame walks, noisiest first, int64 [S]."""
    return torch.arange(0, CHAIN, CHAIN // steps).flip(0) + 1


@lru_cache(maxsize=64)
def staircase(stairs: Stairs) -> Tensor:
    """Return how far every frame is after each iteration, int64 [I, frames], from 0 to S."""
    now = torch.zeros(stairs.frames, dtype=torch.int64)
    now[: stairs.given] = stairs.steps
    rows = []
    while int(now[-1]) < stairs.steps:
        then = now.clone()
        for frame in range(stairs.frames):
            leads = frame == 0 or int(now[frame - 1]) == stairs.steps
            then[frame] = now[frame] + 1 if leads else then[frame - 1] - stairs.lag
        now = then.clamp(0, stairs.steps)
        rows.append(now)
    return torch.stack(rows) if rows else now.new_zeros(0, stairs.frames)


def windows(stairs: Stairs) -> Tensor:
    """Return the first frame and one past the last that each iteration reads, int64 [I, 2].

    The window moves on by a frame whenever the one behind it starts.
    """
    table, end, rows = staircase(stairs), stairs.window, []
    for before, now in zip(torch.cat([0 * table[:1], table])[:-1], table, strict=True):
        if end < stairs.frames and now[end] != before[end]:
            end += 1
        rows.append((end - stairs.window, end))
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)


def timesteps(stairs: Stairs) -> Tensor:
    """Return the step of the chain that the network is told of every frame, int64 [I, frames]."""
    told = torch.cat([torch.tensor([CHAIN - 1]), ddim_timesteps(stairs.steps)])
    return told[staircase(stairs)]


class StaircaseOrder:
    """Draws all frames of a window at every step, and lowers their noise.

    `Step.level` holds steps of the chain, from and to. It is the same where a frame has not
    started; known frames are told the lowest step and stay as they are.

    Args:
        layout: of the clip.
        stairs: see `Stairs`.
    """

    def __init__(self, layout: Layout, stairs: Stairs) -> None:
        self.steps = _steps(layout, stairs)

    def __len__(self) -> int:
        return len(self.steps)

    def next(self, row: Row) -> Step | None:
        """Return the row's next step, or None after the last."""
        return self.steps[row.step] if row.step < len(self.steps) else None


@lru_cache(maxsize=16)
def _steps(layout: Layout, stairs: Stairs) -> tuple[Step, ...]:
    table, walked = staircase(stairs), ddim_timesteps(stairs.steps)
    ends = torch.cat([torch.tensor([CHAIN - 1]), walked[1:], torch.tensor([0])])
    level = torch.stack([timesteps(stairs), ends[table]], dim=-1).float()
    frame = layout.coordinates()[:, 1]
    steps = []
    for index, (first, end) in enumerate(windows(stairs).tolist()):
        draw = ((frame >= first) & (frame < end)).nonzero().squeeze(-1)
        steps.append(Step(draw, index, len(table), level[index, frame[draw]]))
    return tuple(steps)


@lru_cache(maxsize=64)
def window_slots(context: int, tokens: int, first: int, count: int) -> Slots:
    """Return the slots of the context and of successive tokens, which are drafts.

    Args:
        context: T, vectors in front.
        tokens: of a frame.
        first: token of the window.
        count: of the window's tokens.
    """
    place = torch.cat([torch.arange(-context, 0), torch.arange(first, first + count)])
    since = torch.cat([torch.full((context,), -1), torch.arange(count) // tokens])
    index = torch.arange(context, context + count)
    speaks = torch.stack([index, torch.zeros_like(index), place[context:]], dim=1)
    return Slots.of(place, since, speaks, copy=(place >= 0).long(), commit=False)
