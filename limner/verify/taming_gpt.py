"""Replays of VQGAN's GPT, and of the curves along which it may draw."""

from __future__ import annotations

import math

import torch

from limner.core.layout import grid
from limner.core.tokens import from_ids
from limner.hub.official import taming_gpt as official
from limner.models.taming_gpt import TamingGPT, corrupted
from limner.orders.curves import along
from limner.verify.case import Case
from limner.verify.drawing import draw, filtered
from limner.verify.registry import replay


@replay("vqgan/gpt*")
@torch.no_grad()
def gpt(case: Case) -> None:
    """Teacher-forced logits and losses, of clean and of replaced codes; a greedy run; filters."""
    model: TamingGPT = official.GPT.build(official.gpt_config(case.hyper), case.weights())
    given, ids = {"prefix": case.input("cond")}, case.input("ids")
    layout = grid(1, ids.shape[1])
    tokens = from_ids(layout, ids)
    assert tokens.ids is not None
    logits = model.teach(tokens, given)
    case.check("logits", logits)
    case.check("loss", model.loss(tokens, given).total)
    kept, other = case.input("keep_mask").bool(), case.input("random_ids")
    replaced = model.teach(corrupted(tokens, kept.unsqueeze(-1), other.unsqueeze(-1)), given)
    case.check("corrupt_logits", replaced)
    case.check("corrupt_loss", model.head.loss(replaced, tokens.ids).total)
    options = official.sampling_options(case.arguments("greedy_ids"))
    case.check("greedy_ids", draw(model, layout, given, options).ids.squeeze(-1))
    for name, _ in case.match("filter_t{temperature}_k{top_k}"):
        options = official.sampling_options(case.arguments(name))
        case.check(name, filtered(logits[0, :4], options, model.head))


@replay("vqgan/permuters*")
def curves(case: Case) -> None:
    """The cell of each step, the step of each cell, and codes in drawing order."""
    for name, _ in case.match("{permuter}_forward_idx"):
        arguments, permuter = case.arguments(name), name.removesuffix("_forward_idx")
        layout = grid(*arguments["grid"])
        order = along(official.CURVES[arguments["permuter"]], layout)
        path = torch.cat([step.draw for step in order.steps])
        case.check(name, path)
        case.check(f"{permuter}_backward_idx", order.step)
        if case.input("ids").shape[1] == math.prod(arguments["grid"]):
            case.check(f"{permuter}_permuted", case.input("ids")[:, path])
