"""Replays of AR-Diffusion: schedules of training and sampling, the network, runs by the loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limner.core.layout import Layout, grid
from limner.core.noise import ReplayedNoise
from limner.core.tokens import empty, from_values
from limner.decoding import generate
from limner.hub.official import ar_diffusion as official
from limner.models.ar_diffusion import ARDiffusion
from limner.orders.non_decreasing import beginnings, continuations, fopp_times, forward_times
from limner.orders.staircase import Stairs, ddim_timesteps, staircase, timesteps, windows
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("ar-diffusion/fopp*")
def training_times(case: Case) -> None:
    """Non-decreasing times from given numbers, and the counts that they are drawn by."""
    for index, config in enumerate(case.hyper["configs"]):
        name, frames, chain = f"c{index}", config["frames"], config["timesteps"]
        frame, time = case.input(f"{name}_frame"), case.input(f"{name}_step")
        uniform = case.input(f"{name}_uniform")
        case.check(f"{name}_steps", fopp_times(frame, time, uniform, frames, chain))
        case.check(f"{name}_forward_steps", forward_times(uniform, chain))
        for kind, counts in (("prefix", beginnings), ("suffix", continuations)):
            if f"{name}_{kind}_counts" in case:
                case.check(f"{name}_{kind}_counts", counts(frames, chain).long())


@replay("ar-diffusion/ad-schedule*")
def sampling_times(case: Case) -> None:
    """The staircases, and the windows that slide over them."""
    for index, config in enumerate(case.hyper["configs"]):
        stairs = Stairs(config["frames"], config["window"], config["ddim_steps"], config["ar_step"])
        table = staircase(stairs)
        before = torch.cat([0 * table[:1], table])[:-1]
        case.check(f"c{index}_template", ddim_timesteps(stairs.steps))
        case.check(f"c{index}_timesteps", timesteps(stairs))
        case.check(f"c{index}_index", table)
        case.check(f"c{index}_update", (table != before).byte())
        case.check(f"c{index}_interval", windows(stairs))


@replay("ar-diffusion/dit*")
@torch.no_grad()
def network(case: Case) -> None:
    """Clean tokens told in one pass, the loss, and guided runs with given noise."""
    config = official.ar_diffusion_config(case.hyper)
    model: ARDiffusion = official.AR_DIFFUSION.build(config, case.weights())
    _check_teaching(case, model)
    for index, run in enumerate(case.hyper["generations"]):
        _check_run(case, model, f"gen{index}", run)


def _check_teaching(case: Case, model: ARDiffusion) -> None:
    frames, config = case.input("frames"), model.config
    size = (config.frames, config.frame_tokens)
    values = official.tokens_of(
        frames, case.hyper["scale_factor"], case.hyper.get("norm_preprocess", False)
    )
    time = case.input("timesteps").repeat_interleave(config.frame_tokens, 1)
    noisy = model.head.tables.add_noise(values, time, case.input("noise").flatten(1, 2))
    tokens = from_values(_layout(config.frame_tokens, config.frames), values)
    told = model.teach(tokens, _labels(case, len(frames)), noisy, time)
    case.check("latents", values.unflatten(1, size))
    case.check("noisy", noisy.unflatten(1, size))
    case.check("output", told.unflatten(1, size))
    case.check("loss", model.head.loss(told, values).total)


def _check_run(case: Case, model: ARDiffusion, name: str, run: dict[str, Any]) -> None:
    model.config = replace(model.config, lag=run["ar_step"])
    options, noise = official.sampling_options(run), case.input(f"{name}_noise")
    layout = _layout(model.config.frame_tokens, run["frames"])
    labels = _labels(case, len(noise))["label"]
    rows = []
    for index, start in enumerate(noise.flatten(1, 2)):
        own = {"label": labels[index : index + 1]}
        blank = empty(layout, width=model.config.token_width)
        rows += model.begin(blank, own, options, ReplayedNoise({"start": start}))
    leads = generate(model, rows)
    values = torch.cat([row.tokens.values for row in leads if row.tokens.values is not None])
    frames = values.unflatten(1, (run["frames"], -1)).transpose(2, 3).unsqueeze(3)
    case.check(f"{name}_frames", frames / case.hyper["scale_factor"], SAMPLING_RUN)


def _labels(case: Case, count: int) -> dict[str, Tensor]:
    given = "class_id" in case
    return {"label": case.input("class_id") if given else torch.zeros(count, dtype=torch.int64)}


def _layout(tokens: int, frames: int) -> Layout:
    return grid(1, tokens, frames, kind="values", role="register")
