"""Replays of Distilled Decoding: the flow map, students of LlamaGen and VAR, their runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limner.core.generator import Packed
from limner.core.layout import Layout, pyramid
from limner.core.memory import NoMemory
from limner.core.noise import Noise, ReplayedNoise, SeededNoise
from limner.core.order import Order, Step
from limner.core.row import Options, Row
from limner.core.slots import Slots, attention_mask, batch, before_or_self, concatenate
from limner.core.tokens import Tokens, empty, from_ids, stack
from limner.decoding import generate
from limner.heads.flow_map import arrived, velocity, walk
from limner.heads.jumps import JumpHead
from limner.heads.mixtures import Mixture
from limner.hub.build import fill
from limner.hub.official import distilled as official
from limner.hub.official import llamagen, var
from limner.models.distilled_llamagen import DistilledLlamaGen
from limner.models.distilled_var import DistilledVAR
from limner.models.var import VAR
from limner.orders import scale_slots, scales
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.drawing import draw
from limner.verify.registry import replay

Student = DistilledVAR | DistilledLlamaGen


@replay("distilled-decoding/flow-map*")
@torch.no_grad()
def flow_map(case: Case) -> None:
    """The velocity, where noise is on the way, and the codes that it arrives at."""
    codes, logprob = case.input("codebook").double(), case.input("probs").double().log()
    start, times = case.input("x0").double(), case.input("times").double()
    on_the_way = [walk(start, logprob, codes, float(-(1 - time).log())) for time in times]
    case.check("x_t", torch.stack(on_the_way, dim=1))
    told = case.input("x_t").double(), times.unsqueeze(-1), logprob.unsqueeze(1), codes
    case.check("velocity", velocity(*told))
    end = float(case.arguments("ids")["end_s"])
    case.check("ids", arrived(walk(start, logprob, codes, end), logprob, codes, end))
    codes, logprob = case.input("line_codebook").double(), case.input("line_probs").double().log()
    start, codes = case.input("line_x0").double().unsqueeze(-1), codes.unsqueeze(-1)
    logprob = logprob.expand(len(start), -1)
    case.check("line_ids", arrived(walk(start, logprob, codes), logprob, codes))


@replay("distilled-decoding/llamagen-dd*")
@torch.no_grad()
def llamagen_student(case: Case) -> None:
    """A student of LlamaGen, and its runs with the teacher between."""
    weights = case.weights()
    config = official.llamagen_config(case.hyper)
    model: DistilledLlamaGen = official.DISTILLED_LLAMAGEN.build(config, var.part(weights, "dd."))
    teacher = llamagen.GPT.build(llamagen.gpt_config(case.hyper), var.part(weights, "teacher."))
    layout, codes = llamagen.gpt_layout(case.hyper), case.input("codebook")
    _check_student(case, model, layout, codes, case.input("ids"))
    one_step = _check_jumps(case, model, layout, codes)
    condition = {"label": case.input("gen_labels")}
    prefix = _nearest(one_step, codes)[:, : case.arguments("teacher_prefix_ids")["tokens"]]
    case.check("teacher_prefix_ids", prefix)
    for name in ("teacher_ids", "teacher_full_ids"):
        arguments = case.arguments(name)
        held = prefix[:, :0] if arguments["prefix"] is None else prefix
        known = held.shape[1]
        given = empty(layout, len(held), codes=1)
        given.ids[:, :known, 0], given.known[:, :known] = held, True  # type: ignore[index]
        options = llamagen.sampling_options({**arguments, "guidance_scale": arguments["cfg_scale"]})
        drawn = draw(teacher, layout, condition, options, given=given).ids.squeeze(-1)
        drawn = drawn[:, : known + arguments["new_tokens"]]
        case.check(name, drawn)
        if name == "teacher_ids":
            values = _run(case, model, layout, codes, "teacher_final_sequence", drawn)
            case.check("teacher_final_sequence", values, SAMPLING_RUN)


@replay("distilled-decoding/var-dd*")
@torch.no_grad()
def var_student(case: Case) -> None:
    """A student of VAR, and its runs with the teacher between."""
    weights, hyper = case.weights(), case.hyper
    model: DistilledVAR = official.DISTILLED_VAR.build(
        official.var_config(hyper), var.part(weights, "dd.")
    )
    quantizer = var.quantizer(hyper, var.part(weights, "vae.quantize."))
    codes, layout = quantizer.codebook.weight, pyramid(model.config.sizes)
    slots = model.slots_from(layout, 0)
    case.check("attn_mask", attention_mask(before_or_self, slots, slots))
    case.check("level_of_position", slots.since)
    noise = [
        model.slots_from(layout, layout.span(scale).start).copy
        for scale in range(len(layout.segments))
    ]
    case.check("noise_mask", torch.stack(noise)[:, 1:].bool())
    _check_student(case, model, layout, codes, _nearest(case.input("data"), codes))
    one_step = _check_jumps(case, model, layout, codes)
    for name in ("gen_step1", "gen_step2"):
        values = _run(case, model, layout, codes, f"{name}_sequence")
        case.check(f"{name}_f_hat", quantizer.decode(_vectors(layout, values)), SAMPLING_RUN)
    prefix = _nearest(one_step, codes)
    case.check("teacher_prefix_ids", prefix)
    teacher = _PrefixedVAR(var.transformer_config(hyper)).eval()
    fill(teacher, var.TRANSFORMER_TABLE.to_ours(var.part(weights, "teacher.")), "the teacher")
    teacher.canvas = quantizer
    for name in ("teacher_sequence", "teacher_full_sequence"):
        arguments = case.arguments(name)
        teacher.first, end = arguments["first_scale"], arguments["end_scale"]
        count = layout.span(end - 1).stop
        given = from_ids(layout, prefix)
        given.known[:, layout.span(teacher.first).start :] = False
        condition = {"label": case.input(arguments["labels"])}
        rows = []
        for index in range(len(prefix)):
            own = {"label": condition["label"][index : index + 1]}
            options = var.sampling_options(arguments)
            rows += teacher.begin(given.row(index).clone(), own, options, SeededNoise(0))
        drawn = stack([row.tokens for row in generate(teacher, rows)]).ids
        assert drawn is not None
        ids = drawn[:, :count, 0]
        case.check(name, codes[ids])
        if name == "teacher_sequence":
            values = _run(case, model, layout, codes, "teacher_final_sequence", ids)
            case.check("teacher_final_sequence", values, SAMPLING_RUN)
            case.check("teacher_f_hat", quantizer.decode(_vectors(layout, values)), SAMPLING_RUN)


class _PrefixedVAR(VAR):
    """A teacher that reads the scales it is given together with the first it draws.

    The released code runs them in one pass without a mask, so given scales see later ones.
    """

    first = 0

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        whole = scales(tokens.layout)
        return _Some(whole.steps[self.first :])

    def slots(self, row: Row, step: Step) -> Slots:
        layout, own = row.tokens.layout, scale_slots(row.tokens.layout, step.index)
        if step.index != self.first or step.index == 0:
            return own
        given = [
            replace(scale_slots(layout, scale), speaks=torch.empty(0, 3, dtype=torch.int64))
            for scale in range(step.index)
        ]
        joined = concatenate([*given, own])
        return replace(joined, since=torch.full_like(joined.since, step.index))

    def inputs(self, packed: Packed) -> Tensor:
        assert packed.fed is not None
        length = packed.place.shape[1]
        if packed.fed.shape[1] != length:
            fed, _ = self.canvas.teach(packed.tokens)
            assert fed is not None
            packed.fed = fed[:, :length]
        return super().inputs(packed)


class _Some:
    """Some steps of an order."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.steps = steps

    def next(self, row: Row) -> Step | None:
        return self.steps[row.step] if row.step < len(self.steps) else None


def _check_student(case: Case, model: Student, layout: Layout, codes: Tensor, ids: Tensor) -> None:
    """Check what a student tells of given tokens and noise, rows at times of their own."""
    label, noise, times = case.input("labels"), case.input("noise"), case.input("t")
    firsts = [_first(model, layout, int(time)) for time in times]
    clean = Tokens(layout, ids.unsqueeze(-1), codes[ids], torch.ones(ids.shape, dtype=torch.bool))
    slots = batch([model.slots_from(layout, first, everywhere=True) for first in firsts])
    packed = Packed(clean, slots, [{"label": label}], noisy=noise)
    outputs = model(packed, NoMemory())
    case.check("x_t", packed.values()[:, 1:])
    case.check("tokens_pred", outputs[..., len(codes) :])
    case.check("logits", outputs[..., : len(codes)])
    for name, split in (("final_tokens", 0), ("final_sequence", model.head.split)):
        known = torch.stack([torch.arange(len(layout)) < first for first in firsts])
        given = Tokens(layout, clean.ids, clean.values, known)
        drawn = _draw(model, given, label, noise, codes, steps=1, split=split)
        case.check(name, _values(drawn), SAMPLING_RUN)
    assert drawn.ids is not None
    case.check("final_ids", drawn.ids[..., 0])


def _check_jumps(case: Case, model: Student, layout: Layout, codes: Tensor) -> Tensor:
    """Check runs of one step and of two, and return the former, float [B, N, D]."""
    for name in ("gen_step2_sequence", "gen_step1_sequence"):
        values = _run(case, model, layout, codes, name)
        case.check(name, values, SAMPLING_RUN)
    return values


def _run(
    case: Case,
    model: Student,
    layout: Layout,
    codes: Tensor,
    name: str,
    first_ids: Tensor | None = None,
) -> Tensor:
    """Return what a student draws of the case's noise, float [B, N, D]; some tokens are given."""
    arguments: dict[str, Any] = case.arguments(name)
    label, noise = case.input(arguments["labels"]), case.input(arguments["noise"])
    given = empty(layout, len(label), codes=1, width=codes.shape[1])
    if first_ids is not None:
        count = first_ids.shape[1]
        assert given.ids is not None and given.values is not None
        given.ids[:, :count, 0], given.values[:, :count] = first_ids, codes[first_ids]
        given.known[:, :count] = True
    model.config = replace(model.config, jumps=(0, *filter(None, arguments["t_list"])))
    steps = len(arguments["t_list"]) if 0 in arguments["t_list"] else None
    return _values(_draw(model, given, label, noise, codes, steps))


def _draw(
    model: Student,
    given: Tokens,
    label: Tensor,
    noise: Tensor,
    codes: Tensor,
    steps: int | None = None,
    split: int | None = None,
) -> Tokens:
    """Draw by the usual loop."""
    head = model.head
    if split is not None:
        model.head = JumpHead(split)
    options, rows = Options(mixture=Mixture(codes), steps=steps), []
    for index in range(len(label)):
        own = ReplayedNoise({"start": noise[index]})
        condition = {"label": label[index : index + 1]}
        rows += model.begin(given.row(index).clone(), condition, options, own)
    drawn = stack([row.tokens for row in generate(model, rows)])
    model.head = head
    return drawn


def _first(model: Student, layout: Layout, time: int) -> int:
    """Return the first token that is noise at a time of the official code."""
    return layout.span(time).start if isinstance(model, DistilledVAR) else time


def _values(tokens: Tokens) -> Tensor:
    assert tokens.values is not None
    return tokens.values


def _vectors(layout: Layout, values: Tensor) -> Tokens:
    return Tokens(layout, None, values, torch.ones(values.shape[:2], dtype=torch.bool))


def _nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the nearest code of every vector, int64 [B, N]."""
    return (vectors.unsqueeze(-2) - codes).square().sum(-1).argmin(-1)
