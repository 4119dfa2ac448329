"""Replays of VAR: the next-scale transformer, with its quantiser as the canvas."""

from __future__ import annotations

import torch

from limner.core.generator import Packed
from limner.core.layout import pyramid
from limner.core.memory import NoMemory
from limner.core.slots import batch
from limner.core.tokens import from_ids
from limner.heads.categorical import CategoricalHead, gumbel_max
from limner.hub.official import var as official
from limner.models.var import VAR, teacher_slots
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.drawing import draw, filtered
from limner.verify.registry import replay


@replay("var/var*")
@torch.no_grad()
def transformer(case: Case) -> None:
    """Teacher-forced logits and losses, greedy and sampled runs, filters."""
    weights = case.weights()
    model: VAR = official.TRANSFORMER.build(
        official.transformer_config(case.hyper), official.part(weights, "var.")
    )
    quantizer = official.quantizer(case.hyper, official.part(weights, "vae.quantize."))
    model.canvas = quantizer
    layout = pyramid(model.config.sizes)
    head = model.head = CategoricalHead(model.head.stages, sampler=gumbel_max)

    condition = {"label": case.input("labels")}
    tokens = from_ids(layout, case.input("ids"))
    fed, targets = quantizer.teach(tokens)
    assert fed is not None and targets.ids is not None
    slots = teacher_slots(layout)
    logits = model(Packed(tokens, batch([slots] * len(tokens)), [condition], fed=fed), NoMemory())
    last = layout.span(len(layout.segments) - 1)
    case.check("var_input", fed[:, layout.span(0).stop :])
    case.check("step_of_token", slots.since)
    case.check("logits", logits)
    case.check("loss", model.loss(tokens, condition).total)
    case.check("loss_tail", head.loss(logits[:, last], targets.ids[:, last]).total)

    condition = {"label": case.input("gen_labels")}
    for name, _ in case.match("gen_cfg{scale}_ids"):
        run = name.removesuffix("ids")
        drawing = draw(model, layout, condition, official.sampling_options(case.arguments(name)))
        case.check(name, drawing.ids.squeeze(-1), logits=f"{run}logits")
        case.check(f"{run}logits", drawing.logits)
        latents = quantizer.decode(from_ids(layout, drawing.ids))
        case.check(f"{run}f_hat", latents, tolerance=SAMPLING_RUN)

    options = official.sampling_options(case.arguments("sample_ids"))
    noises = [case.noise({"token": "sample_gumbel"}, row) for row in range(len(condition["label"]))]
    drawing = draw(model, layout, condition, options, noises)
    left = torch.stack([filtered(logits, options, head) for logits in drawing.logits])
    kept = left > -torch.inf
    case.check("sample_ids", drawing.ids.squeeze(-1))
    case.check("sample_kept", kept.long())
    case.check("sample_logits", left.masked_fill(~kept, 0))
    latents = quantizer.decode(from_ids(layout, drawing.ids))
    case.check("sample_f_hat", latents, tolerance=SAMPLING_RUN)

    for name, _ in case.match("filter_{rule}_probs"):
        options = official.sampling_options(case.arguments(name))
        given = case.input("filter_in")
        case.check(name, torch.stack([filtered(row, options, head) for row in given]).softmax(-1))
