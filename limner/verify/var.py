"""Replays of VAR: the next-scale transformer, with its quantiser as the canvas."""

from __future__ import annotations

from dataclasses import replace

import torch

from limner.core.generator import Packed
from limner.core.layout import pyramid
from limner.core.memory import NoMemory
from limner.core.noise import ReplayedNoise
from limner.core.slots import batch
from limner.core.tokens import empty, from_ids
from limner.heads.categorical import CategoricalHead, gumbel_max
from limner.heads.mixtures import Mixture
from limner.hub.official import var as official
from limner.models.var import VAR
from limner.orders import teacher_slots
from limner.pipeline import box_mask, tokens_under
from limner.tokenizers.quantizers.multiscale import MultiScaleQuantizer
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.drawing import draw, filtered
from limner.verify.registry import replay


@replay("var/var*")
@torch.no_grad()
def transformer(case: Case) -> None:
    """Teacher-forced logits and losses, greedy, sampled, smooth and editing runs, filters."""
    weights = case.weights()
    model: VAR = official.TRANSFORMER.build(
        official.transformer_config(case.hyper), official.part(weights, "var.")
    )
    quantizer = official.quantizer(case.hyper, official.part(weights, "vae.quantize."))
    teach_and_draw(case, model, quantizer)
    _smooth(case, model, quantizer)
    _edit(case, model, quantizer)
    for name, _ in case.match("filter_{rule}_probs"):
        options = official.sampling_options(case.arguments(name))
        given = case.input("filter_in")
        left = torch.stack([filtered(row, options, model.head) for row in given])
        case.check(name, left.softmax(-1))


def teach_and_draw(case: Case, model: VAR, quantizer: MultiScaleQuantizer) -> None:
    """Check teacher-forced logits and losses, greedy runs, and one with given noise."""
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


def _smooth(case: Case, model: VAR, quantizer: MultiScaleQuantizer) -> None:
    """Check a run that draws mixtures of codes."""
    condition, layout = {"label": case.input("gen_labels")}, pyramid(model.config.sizes)
    arguments = case.arguments("smooth_f_hat")
    codes = quantizer.codebook.weight
    options = replace(official.sampling_options(arguments), mixture=Mixture(codes))
    gumbel = -case.input("smooth_exp").log()
    noises = [ReplayedNoise({"token": row, "mixture": row}) for row in gumbel]
    blank = empty(layout, len(gumbel), codes=1, width=codes.shape[1])
    drawing = draw(model, layout, condition, options, noises, blank)
    case.check("smooth_f_hat", quantizer.decode(drawing.tokens), tolerance=SAMPLING_RUN)


def _edit(case: Case, model: VAR, quantizer: MultiScaleQuantizer) -> None:
    """Check a greedy run that holds what a mask keeps of a picture."""
    condition, layout = {"label": case.input("gen_labels")}, pyramid(model.config.sizes)
    box = case.arguments("edit_mask")
    mask = box_mask(box["box_y0_x0_y1_x1"], layout.extent[1:])
    redrawn = mask if box["inpainting"] else ~mask
    case.check("edit_mask", (~redrawn).float())
    kept = case.arguments("edit_masks_scales")["all_kept_up_to_cells"]
    known = ~tokens_under(redrawn, layout, kept)
    case.check("edit_masks_scales", known.float())
    given = from_ids(layout, case.input("edit_tokens"))
    given.known = known.expand_as(given.known)
    options = official.sampling_options(case.arguments("edit_ids"))
    drawing = draw(model, layout, condition, options, given=given)
    # the loop keeps what is held; the case also tells what would have been drawn there
    drawn = torch.where(known, drawing.logits.argmax(-1), drawing.ids.squeeze(-1))
    case.check("edit_ids", drawn)
    case.check("edit_f_hat", quantizer.decode(drawing.tokens), tolerance=SAMPLING_RUN)
