"""Replays of FlowAR: the network, its velocities and losses, whole runs by the loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limner.core.layout import Layout, grid, pyramid
from limner.core.slots import attention_mask, up_to
from limner.core.tokens import Tokens, empty
from limner.decoding import generate
from limner.heads.flow import FlowHead, by_area
from limner.heads.solvers import flowar_times
from limner.hub.official import flowar as official
from limner.layers.flow_transformer import TokenPlaces
from limner.models.flowar import FlowAR
from limner.orders import teacher_slots
from limner.tokenizers.latent_pyramids import ResampledLatents, as_map, as_tokens
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("flowar/gen*")
@torch.no_grad()
def generator(case: Case) -> None:
    """Teacher-forced outputs and losses, the head alone, and guided runs with given noise."""
    weights = case.weights()
    config = official.flowar_config(case.hyper, len(weights["class_emb.weight"]) - 1)
    model: FlowAR = official.FLOWAR.build(config, weights)
    model.canvas = ResampledLatents()
    layout = pyramid(config.sizes, kind="values")
    _check_teaching(case, model, as_tokens(case.input("latents"), layout))
    _check_velocity(case, model.head)
    for name, entry in case.match("times_{num_steps}"):
        case.check(name, flowar_times(entry["num_steps"])[:-1])
    for name, entry in case.match("time_index_{num_steps}"):
        times = flowar_times(entry["num_steps"])[:-1]
        case.check(name, model.head.told(times, (0.0, model.head.config.clock)).long())
    _check_run(case, model, layout)


def _check_teaching(case: Case, model: FlowAR, tokens: Tokens) -> None:
    layout, labels = tokens.layout, case.input("labels")
    null = model.null({"label": labels})["label"]
    given = {"label": torch.where(case.input("label_drop"), null, labels)}
    seen: dict[str, Tensor] = {}
    hooks = [_watch(model.into_norm, seen, "inputs"), _watch(model.encoder_norm, seen, "encoder")]
    outputs = model.teach(tokens, given)
    for hook in hooks:
        hook.remove()
    slots = teacher_slots(layout)
    places = TokenPlaces(layout, torch.arange(len(layout)).unsqueeze(0))
    segment = places.segment()[0]
    time, noise = case.input("t")[:, segment], case.input("noise")
    assert tokens.values is not None
    errors = model.head.errors(outputs, tokens.values, time, noise, places)
    each = [errors[:, layout.span(index)].mean(1) for index in range(len(layout.segments))]
    case.check("targets", tokens.values)
    case.check("mask", attention_mask(up_to, slots, slots))
    case.check("x_input", seen["inputs"] - model.encoder_places)
    case.check("encoder_out", seen["encoder"])
    case.check("z", outputs)
    case.check("loss_per_scale", torch.stack(each, dim=1))
    case.check("loss", by_area(errors, layout))


def _watch(module: nn.Module, seen: dict[str, Tensor], name: str) -> RemovableHandle:
    """Remember what a norm reads ("inputs") or gives."""

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen[name] = inputs[0] if name == "inputs" else output

    return module.register_forward_hook(hook)


def _check_velocity(case: Case, head: FlowHead) -> None:
    side = case.arguments("flow_v")["side"]
    places = TokenPlaces(grid(side, side, kind="values"), torch.arange(side**2).unsqueeze(0))
    told = head.told(case.input("flow_t"), (0.0, head.config.clock)).unsqueeze(1)
    velocity = head.velocity(case.input("flow_x"), told, case.input("flow_z"), places)
    case.check("flow_v", velocity)


def _check_run(case: Case, model: FlowAR, layout: Layout) -> None:
    arguments = case.arguments("gen_latents")
    options = official.sampling_options(arguments)
    labels = case.input("gen_labels")
    rows = []
    for index in range(len(labels)):
        blank = empty(layout, width=model.config.token_width)
        noise = case.noise({"start": "gen_noise"}, index)
        rows += model.begin(blank, {"label": labels[index : index + 1]}, options, noise)
    passes: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: passes.append(output))
    leads = generate(model, rows)
    hook.remove()
    values = torch.cat([row.tokens.values for row in leads if row.tokens.values is not None])
    outputs = torch.cat(passes, dim=1)
    order = sorted(range(len(rows)), key=lambda index: rows[index].lead is not None)
    case.check("gen_z", outputs[order])
    case.check("gen_latents_steps", values, SAMPLING_RUN)
    drawn = Tokens(layout, None, values, torch.ones(values.shape[:2], dtype=torch.bool))
    case.check("gen_latents", as_map(drawn), SAMPLING_RUN)
