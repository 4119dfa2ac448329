"""A small AR-Diffusion on packaged moving drawings: it learns, frames agree, levels matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.core.layout import Layout
from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import empty, from_values
from limner.data import open_clips
from limner.data.clip_source import Window
from limner.data.source import collect
from limner.decoding import generate
from limner.layers.vision_transformer import StackConfig
from limner.models.ar_diffusion import ARDiffusion, ARDiffusionConfig
from limner.orders.non_decreasing import random_times
from limner.orders.staircase import CHAIN, Stairs, staircase, timesteps
from limner.tokenizers.clip_patches import ClipContinuous, ClipContinuousConfig
from tests.learning.lessons import learn

pytestmark = pytest.mark.slow

SIDE, WIDTH = 24, 16
STEPS, LAG = 10, 3
KINDS = ["Smileys & Emotion", "Animals & Nature", "Food & Drink"]


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips in vectors of patches.

    Args:
        layout: of the vectors.
        clips: to learn from, float [B, N, D].
        held_out: float [H, N, D].
    """

    layout: Layout
    clips: Tensor
    held_out: Tensor

    @property
    def frames(self) -> int:
        return self.layout.extent[0]


def nothing(count: int) -> dict[str, Tensor]:
    return {"label": torch.zeros(count, dtype=torch.int64)}


def clips_of(frames: int) -> Clips:
    train, later = open_clips("moving-twemoji", Window(frames), KINDS).split(0.1)
    tokenizer = ClipContinuous(ClipContinuousConfig(frames, 1, 8, WIDTH))
    seen, unseen = (collect(part, SIDE).to_float() for part in (train, later))
    tokenizer.fit(seen, torch.Generator().manual_seed(0))
    clips, held_out = (tokenizer.encode(part).values for part in (seen, unseen))
    assert clips is not None and held_out is not None
    return Clips(tokenizer.layout(SIDE, SIDE), clips, held_out)


def fresh(data: Clips, stack: StackConfig) -> ARDiffusion:
    torch.manual_seed(0)
    config = ARDiffusionConfig(
        stack, data.frames, len(data.layout) // data.frames, WIDTH, context=2, context_width=16,
        open_context=False, steps=STEPS, lag=LAG,
    )  # fmt: skip
    return ARDiffusion(config)


@pytest.fixture(scope="module")
def data() -> Clips:
    return clips_of(4)


@pytest.fixture(scope="module")
def model(data: Clips) -> ARDiffusion:
    made = fresh(data, StackConfig(128, 4, 4))

    def loss(rng: torch.Generator) -> Tensor:
        clips = data.clips[torch.randint(len(data.clips), (64,), generator=rng)]
        return made.loss(from_values(data.layout, clips), nothing(64), rng).total

    learn(made, loss, 500)
    return made


@pytest.fixture(scope="module")
def longer() -> Clips:
    return clips_of(8)


def taught(data: Clips, times: Callable[[torch.Generator], Tensor]) -> ARDiffusion:
    """Return a small network that learned under levels drawn so.

    It begins with the same weights whatever they are, and learns by the same clips and noise.

    Args:
        times: of 32 clips, int64 [32, F].
    """
    made = fresh(data, StackConfig(48, 2, 4))
    chosen, levels = (torch.Generator().manual_seed(seed) for seed in (1, 2))

    def loss(rng: torch.Generator) -> Tensor:
        clean = data.clips[torch.randint(len(data.clips), (32,), generator=chosen)]
        return clean_error(data.layout, made, clean, times(levels), rng).mean()

    learn(made, loss, 400)
    return made


def clean_error(
    layout: Layout, model: ARDiffusion, clean: Tensor, time: Tensor, rng: torch.Generator
) -> Tensor:
    """Return the squared error of what is told of every frame, float [B, F].

    Args:
        clean: float [B, N, D].
        time: int64 [B, F].
    """
    each = time.repeat_interleave(model.config.frame_tokens, 1)
    noise = torch.randn(clean.shape, generator=rng)
    noisy = model.head.tables.add_noise(clean, each, noise)
    told = model.teach(from_values(layout, clean), nothing(len(clean)), noisy, each)
    return (told - clean).square().mean(-1).unflatten(1, (layout.extent[0], -1)).mean(-1)


def drawn(data: Clips, model: ARDiffusion, count: int) -> Tensor:
    """Return clips that are drawn a staircase down, float [count, N, D]."""
    rows = []
    for seed in range(count):
        blank = empty(data.layout, width=WIDTH)
        rows += model.begin(blank, nothing(1), Options(), SeededNoise(seed))
    values = [row.tokens.values for row in generate(model, rows)]
    return torch.cat([each for each in values if each is not None])


def jitter(clips: Tensor, frames: int) -> float:
    """Return the mean squared difference between successive frames."""
    return float(clips.unflatten(1, (frames, -1)).diff(dim=1).square().mean())


def errors_down(data: Clips, model: ARDiffusion, lag: int) -> Tensor:
    """Return the errors of every frame on its way down a staircase, float [F]."""
    stairs = Stairs(data.frames, data.frames, STEPS, lag)
    times, table = timesteps(stairs), staircase(stairs)
    moves = table.diff(dim=0, prepend=0 * table[:1]) > 0
    rng = torch.Generator().manual_seed(0)  # the same noise for all networks
    rows = [row.expand(len(data.held_out), -1) for row in times]
    errors = torch.stack(
        [clean_error(data.layout, model, data.held_out, row, rng).mean(0) for row in rows]
    )
    return (errors * moves).sum(0) / moves.sum(0)


def test_it_tells_more_than_the_mean_of_all_clips(data: Clips, model: ARDiffusion) -> None:
    held_out = from_values(data.layout, data.held_out)
    told = model.loss(held_out, nothing(len(data.held_out))).total
    mean = (data.held_out - data.clips.mean(0)).square().mean()
    assert float(told) < 0.7 * float(mean)


def test_frames_of_a_clip_agree(data: Clips, model: ARDiffusion) -> None:
    clips, count = drawn(data, model, 64), data.frames
    order = torch.arange(64)
    frames = clips.unflatten(1, (count, -1))
    independent = torch.stack([frames[order.roll(t), t] for t in range(count)], dim=1)
    assert jitter(clips, count) < 0.5 * jitter(independent.flatten(1, 2), count)
    assert jitter(clips, count) < 2 * jitter(data.held_out, count)


def test_rising_levels_lose_little_at_those_of_a_staircase(longer: Clips) -> None:
    """Against levels drawn freely, at a slope like that of the levels drawn (FoPP).

    The first frame loses most: rising levels seldom leave it noisy.
    """
    size = (32, longer.frames)
    rising = taught(longer, lambda rng: random_times(*size, CHAIN, rng))
    forced = taught(longer, lambda rng: torch.randint(CHAIN, size, generator=rng))
    ours, free = (errors_down(longer, model, 1) for model in (rising, forced))
    assert float(ours.mean()) < 1.02 * float(free.mean())
    assert int((ours / free).argmax()) == 0
