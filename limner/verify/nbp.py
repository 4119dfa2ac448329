"""Replays of NBP: masks, sequences and logits of one pass, greedy runs by the loop."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.generator import Packed
from limner.core.layout import Layout, grid
from limner.core.row import Condition, Options
from limner.core.slots import attention_mask, batch, up_to
from limner.core.tokens import Tokens, empty, from_ids
from limner.hub.official import nbp as official
from limner.models.nbp import NBP
from limner.verify.case import Case
from limner.verify.drawing import Drawing, draw
from limner.verify.registry import replay


@replay("nbp/gpt*")
@torch.no_grad()
def generator(case: Case) -> None:
    """One pass over given codes, and a run that takes the likeliest codes."""
    config = official.nbp_config(case.hyper)
    model: NBP = official.NBP.build(config, case.weights())
    frames, rows, columns = case.hyper["latent"]
    tokens = from_ids(grid(rows, columns, frames), case.input("ids"))
    if config.hybrid:
        _check_prompted(case, model, tokens)
    else:
        _check_given(case, model, tokens)


def _check_prompted(case: Case, model: NBP, tokens: Tokens) -> None:
    config, condition = model.config, _prompts(case, len(tokens))
    layout, first = tokens.layout, config.first_code
    whole = batch([config.pattern.teacher_slots(layout, whole=True)] * len(tokens))
    case.check("sequence", model.entries(Packed(tokens, whole, [condition])))
    slots = config.pattern.teacher_slots(layout)
    case.check("attn_mask", attention_mask(up_to, slots, slots))
    _check_teaching(case, model, tokens, condition)
    case.check("logits_null", model.teach(tokens, model.null(condition)))
    drawn, calls = _drawn(model, layout, condition)
    raw = drawn.ids[..., 0] + first
    case.check("gen_ids", raw, logits="gen_logits")
    case.check("gen_logits", drawn.logits)
    case.check("gen_codes", (raw - first).clamp(0, config.codebook_size - 1))
    case.check("gen_calls", calls)


def _check_given(case: Case, model: NBP, tokens: Tokens) -> None:
    condition = _prompts(case, len(tokens))
    slots = model.config.pattern.teacher_slots(tokens.layout, whole=True)
    case.check("attn_mask", attention_mask(up_to, slots, slots))
    _check_teaching(case, model, tokens, condition)
    prefix = case.input("prefix")
    given = empty(tokens.layout, len(prefix), codes=1)
    count = prefix.shape[1]
    assert given.ids is not None
    given.ids[:, :count, 0], given.known[:, :count] = prefix, True
    drawn, calls = _drawn(model, tokens.layout, condition, given)
    case.check("gen_ids", drawn.ids[:, count:, 0], logits="gen_logits")
    case.check("gen_logits", drawn.logits)
    case.check("gen_calls", calls)


def _check_teaching(case: Case, model: NBP, tokens: Tokens, condition: Condition) -> None:
    assert tokens.ids is not None
    logits = model.teach(tokens, condition)
    case.check("logits", logits)
    case.check("target", tokens.ids[:, -logits.shape[1] :, 0] + model.config.first_code)
    case.check("loss", model.loss(tokens, condition).total)


def _prompts(case: Case, count: int) -> Condition:
    given = case.input("cond") if "cond" in case else torch.zeros(count, 0, dtype=torch.int64)
    return {"prompt": given}


def _drawn(
    model: NBP, layout: Layout, condition: Condition, given: Tokens | None = None
) -> tuple[Drawing, int]:
    """Return a run that takes the likeliest codes, and how many passes it took."""
    passes: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: passes.append(output))
    drawing = draw(model, layout, condition, Options(temperature=0.0), given=given)
    hook.remove()
    return drawing, len(passes)
