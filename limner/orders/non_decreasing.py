"""AR-Diffusion's training: times of a clip's frames that never decrease (FoPP).

Sun et al., "AR-Diffusion: Asynchronous Video Generation with Auto-Regressive Diffusion",
arXiv:2503.07418; facts from src/ardiff/modules/timestep_sampler.py of iva-mzsun/AR-Diffusion.

One frame has any time alike; given that, all non-decreasing sequences are equally likely. They are
drawn frame by frame from how many ways there are to go on, which float64 counts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def beginnings(frames: int, chain: int) -> Tensor:
    """Return how many non-decreasing sequences of times end with t in frame f, float64 [T, F]."""
    columns = [torch.ones(chain, dtype=torch.float64)]
    for _ in range(frames - 1):
        columns.append(columns[-1].cumsum(0))
    return torch.stack(columns, dim=1)


def continuations(frames: int, chain: int) -> Tensor:
    """Return how many such sequences begin with t in frame f, float64 [T, F]."""
    return beginnings(frames, chain).flip(0, 1)


def fopp_times(frame: Tensor, time: Tensor, uniform: Tensor, frames: int, chain: int) -> Tensor:
    """Return random non-decreasing times, int64 [B, F], with a given time in a given frame.

    All sequences with that time in that frame are equally likely.

    Args:
        frame: int64 [B], the given frame of each clip.
        time: int64 [B], its time.
        uniform: [B, F - 1 or more], numbers in [0, 1): for the frames before it, backwards, then
            for those after it.
        frames: F.
        chain: T.
    """
    before, after = beginnings(frames, chain), continuations(frames, chain)
    every, batch = torch.arange(chain), torch.arange(len(frame))
    times = torch.zeros(len(frame), frames, dtype=torch.int64)
    times[batch, frame] = time
    for at in reversed(range(frames - 1)):
        fits = every <= times[:, at + 1 : at + 2]
        drawn = _draw(before[:, at] * fits, uniform[batch, (frame - 1 - at).clamp(min=0)])
        times[:, at] = torch.where(at < frame, drawn, times[:, at])
    for at in range(1, frames):
        fits = every >= times[:, at - 1 : at]
        drawn = _draw(after[:, at] * fits, uniform[:, at - 1])
        times[:, at] = torch.where(at > frame, drawn, times[:, at])
    return times


def forward_times(uniform: Tensor, chain: int) -> Tensor:
    """Return random non-decreasing times, int64 [B, F], all sequences equally likely.

    Args:
        uniform: [B, F], numbers in [0, 1), frame by frame.
        chain: T.
    """
    after, every = continuations(uniform.shape[1], chain), torch.arange(chain)
    last = torch.zeros(len(uniform), 1, dtype=torch.int64)
    times = []
    for at, number in enumerate(uniform.unbind(1)):
        last = _draw(after[:, at] * (every >= last), number).unsqueeze(1)
        times.append(last)
    return torch.cat(times, dim=1)


def random_times(batch: int, frames: int, chain: int, rng: torch.Generator) -> Tensor:
    """Return the times of a training batch, int64 [B, F]: any frame has any time alike."""
    frame = torch.randint(frames, (batch,), generator=rng, device=rng.device).cpu()
    time = torch.randint(chain, (batch,), generator=rng, device=rng.device).cpu()
    uniform = torch.rand(batch, frames, generator=rng, device=rng.device).cpu()
    return fopp_times(frame, time, uniform, frames, chain)


def _draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Return int64 [B]: the first index whose share of weights [B, T], summed up, passes it."""
    cumulative = (weights / weights.sum(-1, keepdim=True)).cumsum(-1)
    cumulative = (cumulative / cumulative[:, -1:]).contiguous()
    target = uniform.double().unsqueeze(1).contiguous()
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)
