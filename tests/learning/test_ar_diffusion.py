"""A small AR-Diffusion on packaged moving drawings: it learns, frames agree, levels matter."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.core.layout import Layout
from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import Tokens, empty, from_values
from limner.data import open_clips
from limner.data.clip_source import Window
from limner.data.source import collect
from limner.decoding import generate
from limner.layers.vision_transformer import StackConfig
from limner.models.ar_diffusion import ARDiffusion, ARDiffusionConfig
from limner.orders.staircase import CHAIN, Stairs, staircase, timesteps
from limner.tokenizers.clip_patches import ClipContinuous, ClipContinuousConfig
from tests.learning.lessons import learn

pytestmark = pytest.mark.slow

FRAMES, SIDE, WIDTH = 4, 24, 16
STEPS, LAG = 10, 3
KINDS = ["Smileys & Emotion", "Animals & Nature", "Food & Drink"]


@dataclass(frozen=True, eq=False)
class Taught:
    """Clips in vectors of patches, and two networks that learned them for as many updates.

    Args:
        layout: of the vectors.
        clips: to learn from, float [B, N, D].
        held_out: float [H, N, D].
        rising: learned under levels that rise from frame to frame.
        forced: learned under a level of its own for every frame (diffusion forcing).
    """

    layout: Layout
    clips: Tensor
    held_out: Tensor
    rising: ARDiffusion
    forced: ARDiffusion


def nothing(count: int) -> dict[str, Tensor]:
    return {"label": torch.zeros(count, dtype=torch.int64)}


def fresh(layout: Layout) -> ARDiffusion:
    torch.manual_seed(0)
    config = ARDiffusionConfig(
        StackConfig(128, 4, 4), FRAMES, len(layout) // FRAMES, WIDTH, context=2, context_width=16,
        open_context=False, steps=STEPS, lag=LAG,
    )  # fmt: skip
    return ARDiffusion(config)


@pytest.fixture(scope="module")
def taught() -> Taught:
    train, later = open_clips("moving-twemoji", Window(FRAMES), KINDS).split(0.1)
    tokenizer = ClipContinuous(ClipContinuousConfig(FRAMES, 1, 8, WIDTH))
    seen, unseen = (collect(part, SIDE).to_float() for part in (train, later))
    tokenizer.fit(seen, torch.Generator().manual_seed(0))
    clips, held_out = (tokenizer.encode(part).values for part in (seen, unseen))
    assert clips is not None and held_out is not None
    layout = tokenizer.layout(SIDE, SIDE)
    models = rising, forced = fresh(layout), fresh(layout)

    def batch(rng: torch.Generator) -> Tokens:
        assert clips is not None
        return from_values(layout, clips[torch.randint(len(clips), (64,), generator=rng)])

    def loss_of_rising(rng: torch.Generator) -> Tensor:
        return rising.loss(batch(rng), nothing(64), rng).total

    def loss_of_forced(rng: torch.Generator) -> Tensor:
        tokens = batch(rng)
        assert tokens.values is not None
        time = torch.randint(CHAIN, (64, FRAMES), generator=rng)
        return clean_error(layout, forced, tokens.values, time, rng).mean()

    for model, loss in zip(models, (loss_of_rising, loss_of_forced), strict=True):
        learn(model, loss, 500)
    return Taught(layout, clips, held_out, rising, forced)


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
    return (told - clean).square().mean(-1).unflatten(1, (FRAMES, -1)).mean(-1)


def drawn(taught: Taught, model: ARDiffusion, count: int) -> Tensor:
    """Return clips that are drawn a staircase down, float [count, N, D]."""
    rows = []
    for seed in range(count):
        blank = empty(taught.layout, width=WIDTH)
        rows += model.begin(blank, nothing(1), Options(), SeededNoise(seed))
    values = [row.tokens.values for row in generate(model, rows)]
    return torch.cat([each for each in values if each is not None])


def jitter(clips: Tensor) -> float:
    """Return the mean squared difference between successive frames."""
    return float(clips.unflatten(1, (FRAMES, -1)).diff(dim=1).square().mean())


def test_it_tells_more_than_the_mean_of_all_clips(taught: Taught) -> None:
    held_out = from_values(taught.layout, taught.held_out)
    told = taught.rising.loss(held_out, nothing(len(taught.held_out))).total
    mean = (taught.held_out - taught.clips.mean(0)).square().mean()
    assert float(told) < 0.7 * float(mean)


def test_frames_of_a_clip_agree(taught: Taught) -> None:
    clips = drawn(taught, taught.rising, 64)
    order = torch.arange(64)
    frames = clips.unflatten(1, (FRAMES, -1))
    independent = torch.stack([frames[order.roll(t), t] for t in range(FRAMES)], dim=1)
    assert jitter(clips) < 0.5 * jitter(independent.flatten(1, 2))
    assert jitter(clips) < 2 * jitter(taught.held_out)


def test_rising_levels_lose_nothing_at_those_of_a_staircase(taught: Taught) -> None:
    """At the levels of a staircase, the errors of all frames that are on their way."""
    stairs = Stairs(FRAMES, FRAMES, STEPS, LAG)
    times, table = timesteps(stairs), staircase(stairs)
    moves = table.diff(dim=0, prepend=0 * table[:1]) > 0
    found = []
    for model in (taught.rising, taught.forced):
        rng = torch.Generator().manual_seed(0)
        errors = torch.stack(
            [
                clean_error(
                    taught.layout, model, taught.held_out, row.expand(len(taught.held_out), -1), rng
                ).mean(0)
                for row in times
            ]
        )
        found.append(float(errors[moves].mean()))
    assert found[0] < 1.02 * found[1]
