"""Replays of xAR: orders and masks, velocities of noisy cells, and whole runs by the loop."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.generator import Packed
from limner.core.layout import Layout
from limner.core.noise import ReplayedNoise
from limner.core.slots import attention_mask, batch, up_to
from limner.core.tokens import empty, from_values, stack
from limner.decoding import generate
from limner.heads.flow import FlowHead
from limner.heads.solvers import TIMES
from limner.hub.official import xar as official
from limner.layers.patchify import patchify, unpatchify
from limner.models.xar import XAR
from limner.orders.blocks import noisy_slots
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("xar/cells*")
@torch.no_grad()
def cells(case: Case) -> None:
    """Order, mask and positions; velocities and loss at given times; runs with given noise."""
    config = official.xar_config(case.hyper)
    model: XAR = official.XAR.build(config, case.weights())
    layout, sequence = official.layout(config), official.sequence(config)
    _check_places(case, model, layout, sequence)
    _check_training(case, model, layout, sequence)
    for name, _ in case.match("gen_{run}"):
        if "init" in case.arguments(name):
            _check_run(case, model, layout, name)
    _check_times(case, len(config.x.order(layout)))


def _check_places(case: Case, model: XAR, layout: Layout, sequence: Tensor) -> None:
    slots = noisy_slots(model.config.x.order(layout))
    case.check("order", sequence)
    case.check("mask", attention_mask(up_to, slots, slots)[sequence][:, sequence])
    blank = empty(layout, width=model.config.token_width)
    packed = Packed(blank, batch([slots]), [{}])
    turns = model.rotation(packed, model.config.encoder)[0, 0, sequence]
    cosines, sines = turns.repeat_interleave(2, dim=1).unbind(-1)
    case.check("rope_cos", cosines)
    case.check("rope_sin", sines)


def _check_training(case: Case, model: XAR, layout: Layout, sequence: Tensor) -> None:
    """Check what is made of given latents, times (by cell, then picture) and noise."""
    tokens = from_values(layout, patchify(case.input("latents"), case.hyper["patch_size"]))
    label = {"label": case.input("labels")}
    time = case.input("t").unflatten(0, (-1, len(tokens))).T
    noise = _raster(case.input("noise").transpose(0, 1).flatten(1, 2), sequence)
    noisy, told = model.noised(tokens, time, noise)
    first = [step.first for step in model.config.x.order(layout).steps]
    case.check("t_index", told[:, first].T.flatten().long())
    case.check("model_input", noisy[:, sequence])
    velocity = model.teach(tokens, label, time, noise)
    case.check("velocity", velocity[:, sequence])
    assert tokens.values is not None
    case.check("loss", (velocity - (noise - tokens.values)).square().mean())


def _check_run(case: Case, model: XAR, layout: Layout, name: str) -> None:
    """Check a whole run from given start and, for the stochastic solver, given steps."""
    arguments, config, sequence = (
        case.arguments(name),
        model.config,
        official.sequence(model.config),
    )
    model.head = FlowHead(config.token_width, None, official.flow_config(arguments))
    options = official.sampling_options(arguments)
    label, start = case.input(arguments["labels"]), case.input(arguments["init"])
    rows = []
    for index in range(len(label)):
        given = {"start": _raster(start[:, index].flatten(0, 1), sequence, dim=0)}
        if "noise" in arguments:
            steps = case.input(arguments["noise"])[:, :, index]  # [cells, steps, tokens, D]
            given["solver"] = _raster(steps.transpose(1, 2).flatten(0, 1), sequence, dim=0)
        blank, own = empty(layout, width=config.token_width), {"label": label[index : index + 1]}
        rows += model.begin(blank, own, options, ReplayedNoise(given, per_inner=("solver",)))
    drawn = stack([row.tokens for row in generate(model, rows)])
    assert drawn.values is not None
    latents = unpatchify(drawn.values, *layout.extent[1:], case.hyper["patch_size"])
    case.check(name, latents, SAMPLING_RUN)


def _check_times(case: Case, cells: int) -> None:
    arguments = case.arguments("gen_t_index")
    flow = official.flow_config({**case.hyper, **arguments})
    head = FlowHead(1, None, flow)
    told = head.told(TIMES[flow.times](flow.steps)[:-1], (0.0, flow.clock))
    case.check("gen_t_index", told.long().expand(cells, -1))


def _raster(values: Tensor, sequence: Tensor, dim: int = 1) -> Tensor:
    """Put what stands in the official sequence into raster order."""
    return values.index_select(dim, sequence.argsort())
