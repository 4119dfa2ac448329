"""Replays of LlamaGen: the GPT under classes and texts, and the VQ tokenizer."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.generator import Packed
from limner.core.layout import Layout
from limner.core.memory import NoMemory
from limner.core.row import Condition
from limner.core.slots import Slots, attention_mask, batch, up_to
from limner.core.tokens import empty, from_ids
from limner.hub.official import llamagen as official
from limner.models.llamagen import LlamaGen
from limner.tokenizers.llamagen_vq import LlamaGenVQ
from limner.verify.case import Case
from limner.verify.drawing import all_speaking, draw, filtered
from limner.verify.registry import replay


@replay("llamagen/gpt-*")
def gpt(case: Case) -> None:
    """Teacher-forced logits and loss, positions, greedy runs under guidance, filters."""
    model: LlamaGen = official.GPT.build(official.gpt_config(case.hyper), case.weights())
    layout = official.gpt_layout(case.hyper)
    given = _condition(case, "logits")
    tokens = from_ids(layout, case.input("ids"))
    slots = model.teacher_slots(layout, given)
    with torch.no_grad():
        packed = Packed(tokens, all_speaking(slots), [given])
        case.check("logits", model(packed, NoMemory()))
        case.check("loss", model.loss(tokens, given).total)
    case.check("attn_mask", attention_mask(up_to, slots, slots))
    case.check("freqs_cis", _rotation(model, layout, case.hyper["cls_token_num"]))
    for name, _ in case.match("gen_{run}_ids"):
        options = official.sampling_options(case.arguments(name))
        drawing = draw(model, layout, _condition(case, name), options)
        beside = name.removesuffix("ids") + "logits"
        case.check(name, drawing.ids.squeeze(-1), logits=beside)
        case.check(beside, drawing.logits)
    for name, _ in case.match("filter_{rule}"):
        if arguments := case.arguments(name):
            logits = case.input(arguments["logits"])
            case.check(name, filtered(logits, official.sampling_options(arguments)))


def _condition(case: Case, output: str) -> Condition:
    """Return what an output was asked by: classes, or text features and their mask."""
    first, *mask = case.arguments(output)["condition"].split(", ")
    if not mask:
        return {"label": case.input(first)}
    present = case.input(mask[0]).bool()
    null = torch.zeros(len(present), dtype=torch.bool)
    return {"text": case.input(first), "present": present, "null": null}


def _rotation(model: LlamaGen, layout: Layout, prefix: int) -> Tensor:
    """Return the rotations of the prefix and of all tokens."""
    place = torch.arange(-prefix, len(layout))
    slots = batch([Slots.of(place, place, torch.empty(0, 3, dtype=torch.int64))])
    return model.rotation(Packed(empty(layout, codes=1), slots, [{}]))[0, 0]


@replay("llamagen/vq*")
@torch.no_grad()
def vq(case: Case) -> None:
    """Every stage from picture to codes and back, and the losses of the codebook."""
    beta = case.arguments("commit_loss").get("beta", 0.25)
    config = official.vq_config({**case.hyper, "commit_loss_beta": beta})
    tokenizer: LlamaGenVQ = official.VQ.build(config, case.weights())
    pictures = case.input("image")
    latents = tokenizer.encode_latents(pictures)
    _, quantized = tokenizer(pictures)
    case.check("encoder_out", tokenizer.encoder(pictures))
    case.check("pre_quant", latents)
    case.check("quant", quantized.values)
    ids = tokenizer.encode(pictures).ids
    assert ids is not None
    case.check("ids", ids.squeeze(-1))
    case.check("vq_loss", quantized.losses["vq"])
    case.check("commit_loss", quantized.losses["commitment"])
    entropy = case.arguments("entropy_loss_unit_ratio").get("temperature", 0.01)
    undecided = tokenizer.quantizer.entropy_loss(latents.movedim(1, -1), temperature=entropy)
    case.check("entropy_loss_unit_ratio", undecided)
    codes = tokenizer.lookup(from_ids(tokenizer.layout(*pictures.shape[-2:]), case.input("ids")))
    case.check("codebook_entry", codes)
    case.check("decoded", tokenizer.decode_latents(codes))
