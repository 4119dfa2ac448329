"""Replays of Token-Shuffle: merged windows, teacher-forced logits, greedy runs under guidance."""

from __future__ import annotations

from dataclasses import replace

import torch

from limner.core.generator import Packed
from limner.core.layout import grid
from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.row import Options, Row
from limner.core.tokens import empty, from_ids
from limner.heads.guidance import schedule
from limner.hub.official import token_shuffle as official
from limner.models.token_shuffle import TokenShuffleDecoder
from limner.verify.case import Case
from limner.verify.drawing import draw
from limner.verify.registry import replay

SCHEDULES = {"constant": "constant", "linear": "ramp", "half-linear": "half-ramp"}


@replay("token-shuffle/lm*")
@torch.no_grad()
def decoder(case: Case) -> None:
    """What windows are merged to, states, logits and loss; greedy runs and their scales."""
    text = case.input("text")
    config = official.decoder_config(case.hyper, text_length=text.shape[1] + 1)
    config = replace(config, log_normaliser=1.0)  # that term is looked at whatever it weighs
    model: TokenShuffleDecoder = official.DECODER.build(config, case.weights())
    condition = model.condition.of([row[1:].tolist() for row in text])
    layout = grid(*case.hyper["grid"])
    windows = model.windows(layout)
    members = torch.stack([step.draw for step in windows.steps])
    tokens = from_ids(layout, case.input("ids"))
    every = torch.arange(len(windows)).expand(len(tokens), -1)
    packed = Packed(tokens, model.teacher_slots(layout, condition), [condition])
    loss = model.loss(tokens, condition)
    case.check("window_of", members)
    case.check("merged", model.merged(tokens, every))
    case.check("hidden", model.states(packed, NoMemory()))
    case.check("logits", model(packed, NoMemory())[:, members.flatten().argsort()])
    case.check("loss", loss.parts["cross_entropy"])
    case.check("z_term", loss.parts["log_normaliser"])
    for name, _ in case.match("scale_{schedule}"):
        options = _options(case, name)
        row = Row(empty(layout, codes=1), windows, SeededNoise(0), {}, options)
        scales = [options.guidance.scale(row, step) for step in windows.steps]
        case.check(name, torch.tensor([1.0 if scale is None else scale for scale in scales]))
    for name, _ in case.match("gen_{schedule}_ids"):
        drawing = draw(model, layout, condition, _options(case, name))
        beside = name.removesuffix("ids") + "logits"
        case.check(name, drawing.ids.squeeze(-1))
        case.check(beside, drawing.logits[:, members])


def _options(case: Case, output: str) -> Options:
    """Return how an output was drawn: greedily, under the guidance that the case states."""
    arguments = case.arguments(output)
    guidance = schedule(SCHEDULES[arguments["schedule"]], arguments["guidance"])
    return Options(guidance, temperature=0.0)
