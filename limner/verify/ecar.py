"""Replays of E-CAR's flow in stages: its tables, training pairs, jumps, and runs by the loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.layout import Layout, pyramid
from limner.core.noise import ReplayedNoise
from limner.core.row import Options
from limner.core.tokens import empty
from limner.decoding import generate
from limner.heads.flow import FlowHead
from limner.heads.multistage import (
    MultistageConfig,
    MultistagePath,
    block_noise,
    ends,
    noise_along,
    ratios,
    stages,
)
from limner.layers.vision_transformer import StackConfig
from limner.models.ecar import ECAR, ECARConfig
from limner.tokenizers.latent_pyramids import as_tokens
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("e-car/multistage*")
@torch.no_grad()
def multistage(case: Case) -> None:
    """The stages, what training makes of given latents and noise, and a run on a given field."""
    hyper = case.hyper
    config = MultistageConfig(
        steps=tuple(hyper["steps"]),
        ranges=tuple(hyper["stage_range"]),
        gamma=hyper["gamma"],
        chain=hyper["num_train_timesteps"],
        shift=hyper["shift"],
    )
    sides = [hyper["size"] // 2**power for power in reversed(range(hyper["stages"]))]
    layout = pyramid(tuple((side, side) for side in sides), kind="values")
    _check_tables(case, config)
    for index in range(len(sides)):
        _check_training(case, config, layout, index)
    _check_run(case, config, layout)


def _check_tables(case: Case, config: MultistageConfig) -> None:
    table = stages(config)
    case.check("start_sigma", torch.tensor([stage.start for stage in table]))
    case.check("end_sigma", torch.tensor([stage.end for stage in table]))
    case.check("ori_start_sigma", torch.tensor([stage.original for stage in table]))
    case.check("timestep_ratio", torch.tensor([stage.share for stage in table]))
    case.check("alpha", torch.tensor([stage.keep for stage in table[1:]]))
    case.check("beta", torch.tensor([stage.add for stage in table[1:]]))
    # the noise is linear in white noise: its covariance is that of the map of unit vectors
    units = torch.eye(4).reshape(4, 1, 2, 2)
    made = block_noise(units, config.gamma).flatten(1)
    case.check("block_cov", made.T @ made)
    path = MultistagePath(config)
    for index, steps in enumerate(config.steps):
        walk = path.stage_walk(index, steps)
        case.check(f"gen_sigmas_{index}", walk.times)
        case.check(f"gen_timesteps_{index}", _clock(config, walk.times[:-1], index))
    for name, entry in case.match("gen_block_noise_{stage}"):
        white = case.input(f"gen_white_{entry['stage']}")
        case.check(name, block_noise(white, config.gamma))


def _clock(config: MultistageConfig, time: Tensor, index: int) -> Tensor:
    """Return what the network is told of r at a stage."""
    last, first = stages(config)[index].told
    return last + (first - last) * time


def _check_training(case: Case, config: MultistageConfig, layout: Layout, index: int) -> None:
    """Check one stage, on the pictures that the case trains it on."""
    count, span = len(config.steps), layout.span(index)
    size = layout.segments[index].size[1:]

    def maps(tokens: Tensor) -> Tensor:
        return tokens[:, span].transpose(1, 2).unflatten(2, size)

    latents, noise = case.input("latents"), case.input("noise")
    clean = as_tokens(latents, layout).values
    assert clean is not None
    white = _halved(noise, count)
    start, end = ends(clean, noise_along(white, layout, config.gamma), layout, config)
    own = slice(index, None, count)
    time = ratios(case.input("u")[index], config.chain)
    noisy = torch.lerp(end[own], start[own], time[:, None, None])
    case.check(f"pyramid_{index}", maps(clean))
    case.check(f"noisy_{index}", maps(noisy))
    case.check(f"target_{index}", maps((start - end)[own]))
    case.check(f"ratio_{index}", time)
    case.check(f"timestep_{index}", _clock(config, time, index))


def _halved(noise: Tensor, count: int) -> Tensor:
    """Return noise [B, D, H, W] at the sizes of so many stages as tokens, float [B, N, D].

    The case gives the noise of the last stage; a coarser one is twice the average of four numbers.
    At the case's gamma, 1 / 3, jumps from these to these are their own: the noise of a jump has no
    mean in a block.
    """
    maps = [noise]
    while len(maps) < count:
        maps.append(2 * functional.avg_pool2d(maps[-1], 2))
    return torch.cat([part.flatten(2).transpose(1, 2) for part in reversed(maps)], dim=1)


class _Field(nn.Module):
    """The case's velocity, v = W x + b time / 1000, in place of a network."""

    def __init__(self, matrix: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.matrix, self.offset = matrix, offset

    def forward(self, noisy: Tensor, time: Tensor, condition: Tensor, places: object) -> Tensor:
        """Return velocities of tokens [R, n, D] at times [R, 1]."""
        return noisy @ self.matrix.T + self.offset * time.unsqueeze(-1) / 1000


def _check_run(case: Case, config: MultistageConfig, layout: Layout) -> None:
    width = case.hyper["z_channels"]
    sizes = tuple(segment.size[1:] for segment in layout.segments)
    small = StackConfig(width=4, depth=1, heads=1)
    sizing = ECARConfig(
        small, multistage=config, solver="euler", token_width=width, scales=sizes, classes=1
    )
    model = ECAR(sizing).eval()
    assert isinstance(model.head, FlowHead)
    model.head.network = _Field(case.input("field_W"), case.input("field_b"))
    given = [case.input("gen_noise")]
    given += [case.input(f"gen_white_{index}") for index in range(1, len(sizes))]
    white = torch.cat([maps.flatten(2).transpose(1, 2) for maps in given], dim=1)
    rows = []
    for row in white:
        blank, label = empty(layout, width=width), {"label": torch.tensor([0])}
        rows += model.begin(blank, label, Options(), ReplayedNoise({"start": row}))
    leads = generate(model, rows)
    values = torch.cat([row.tokens.values for row in leads if row.tokens.values is not None])
    for index, size in enumerate(sizes):
        drawn = values[:, layout.span(index)].transpose(1, 2).unflatten(2, size)
        case.check(f"gen_stage_{index}", drawn, SAMPLING_RUN)
