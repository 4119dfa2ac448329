"""Replays of M-VAR: the decoupled next-scale transformer, and its Mamba-2 layer alone."""

from __future__ import annotations

import torch

from limner.core.layout import pyramid
from limner.core.memory import PassReading
from limner.core.slots import attention_mask
from limner.hub.official import m_var as official
from limner.hub.official.var import part, quantizer
from limner.models.m_var import MVAR
from limner.orders import teacher_slots
from limner.verify.case import Case
from limner.verify.registry import replay
from limner.verify.var import teach_and_draw


@replay("m-var/mvar*")
@torch.no_grad()
def transformer(case: Case) -> None:
    """The mask, a mixer alone, teacher-forced logits and loss, greedy and sampled runs."""
    weights = case.weights()
    model: MVAR = official.MVAR_WEIGHTS.build(official.config(case.hyper), part(weights, "mvar."))
    slots = teacher_slots(pyramid(model.config.sizes))
    case.check("intra_mask", attention_mask(model.visible, slots, slots))
    arguments = case.arguments("mamba_out")
    mixer = model.get_submodule(arguments["module"].replace("mamba", "mixer"))
    case.check("mamba_out", mixer(case.input(arguments["input"]), PassReading()))
    teach_and_draw(case, model, quantizer(case.hyper, part(weights, "vae.quantize.")))
