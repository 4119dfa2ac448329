"""Replays of ARFlow: velocities of whole rows, the state picture by picture, runs by the loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.core.generator import Packed
from limner.core.layout import Layout, grid
from limner.core.noise import Noise, ReplayedNoise, SeededNoise
from limner.core.row import Options, Row
from limner.core.slots import batch
from limner.core.tokens import Tokens, empty
from limner.decoding import generate
from limner.heads.guidance import schedule
from limner.hub.official import arflow as official
from limner.layers.adaln import AdaLNBlock
from limner.layers.patchify import patchify, unpatchify
from limner.layers.state_memory import StateMemory
from limner.models.arflow import ARFlow
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("arflow/flow*")
@torch.no_grad()
def flow(case: Case) -> None:
    """A training pass, the same with a carried state, and whole runs on given noise."""
    hyper = case.hyper
    model: ARFlow = official.FLOW.build(official.flow_config(hyper), case.weights())
    side, patch = hyper["input_size"] // hyper["patch_size"], hyper["patch_size"]
    layout = grid(side, side, kind="values")
    clean, noise = _tokens(case.input("x1"), patch), _tokens(case.input("x0"), patch)
    time, given = 1 - case.input("t"), {"label": case.input("y")}
    heard: list[tuple[Tensor, Tensor, Tensor]] = []

    def hear(module: nn.Module, told: tuple[Tensor, object, Tensor], out: Tensor) -> None:
        heard.append((told[0], told[2], out))

    block = model.blocks[0]
    assert isinstance(block, AdaLNBlock)
    hook = block.attention.register_forward_hook(hear)
    outputs = model.teach(layout, clean, given, time, noise)
    hook.remove()
    read, vector, attended = heard[0]
    noisy = torch.lerp(clean, noise, time[..., None, None])
    errors = (outputs - (noise - clean).flatten(1, 2)).square().flatten(1).mean(1)
    case.check("xt", _maps(noisy, side, patch))
    case.check("attn_in", read.flatten(1, 2))
    case.check("attn_cond", vector.expand_as(read).flatten(1, 2))
    case.check("attn_out", attended.flatten(1, 2))
    case.check("pred", _maps(-outputs.view_as(noisy), side, patch))
    case.check("loss_per_sample", errors)
    case.check("loss", model.head.loss(outputs, (noise - clean).flatten(1, 2)).total)
    case.check("state_layer0", _state(model, layout, noisy, time, given["label"]))
    for name, drawn_by in (("gen_plain", "gen_noise"), ("gen_cfg", "gen_noise_cfg")):
        if name in case:
            case.check(name, _run(case, model, layout, name, drawn_by), SAMPLING_RUN)


def _tokens(maps: Tensor, patch: int) -> Tensor:
    """Return latents [..., C, h, w] as tokens [..., N, D]."""
    return patchify(maps.flatten(0, -4), patch).unflatten(0, maps.shape[:-3])


def _maps(tokens: Tensor, side: int, patch: int) -> Tensor:
    """Return tokens [..., N, D] as latents [..., C, h, w]."""
    return unpatchify(tokens.flatten(0, -3), side, side, patch).unflatten(0, tokens.shape[:-2])


def _state(model: ARFlow, layout: Layout, noisy: Tensor, time: Tensor, label: Tensor) -> Tensor:
    """Return the state of the first block after pictures that are read one at a time."""
    count, pictures = noisy.shape[:2]
    rows = []
    for index in range(count):
        blank = empty(layout, width=noisy.shape[-1])
        given = {"label": label[index : index + 1]}
        rows += model.begin(blank, given, Options(steps=pictures + 1), SeededNoise(0))
    memory = model.memory(rows)
    assert isinstance(memory, StateMemory)
    memory.admit(rows)
    for picture in range(pictures):
        slots = []
        for row in rows:
            row.step = picture
            step = row.order.next(row)
            assert step is not None
            slots.append(model.slots(row, step))
        drafts = noisy[:, picture]
        tokens = Tokens(layout, None, drafts, torch.zeros(drafts.shape[:2], dtype=torch.bool))
        level = time[:, picture : picture + 1].expand(drafts.shape[:2])
        conditions = [row.condition for row in rows]
        model(Packed(tokens, batch(slots), conditions, rows, noisy=drafts, level=level), memory)
    return memory.states[0][0]


def _run(case: Case, model: ARFlow, layout: Layout, output: str, drawn_by: str) -> Tensor:
    """Return the latents of a run, float [B, C, h, w]."""
    arguments, patch = case.arguments(output), case.hyper["patch_size"]
    guidance = schedule("constant", arguments["cfg_scale"] or 1.0)
    start, labels = _tokens(case.input("gen_init"), patch), case.input("gen_y")
    given = _tokens(case.input(drawn_by), patch)
    rows: list[Row] = []
    for index in range(len(labels)):
        blank = empty(layout, width=start.shape[-1])
        condition = {"label": labels[index : index + 1]}
        options = Options(guidance, steps=arguments["num_steps"])
        rows += model.begin(blank, condition, options, _noise(start[index], given[:, index]))
    leads = generate(model, rows)
    drawn = torch.cat([row.tokens.values for row in leads if row.tokens.values is not None])
    return _maps(drawn, layout.extent[1], patch)


def _noise(start: Tensor, steps: Tensor) -> Noise:
    """Return a row's noise: where it starts, [N, D], and what every step but the last adds."""
    named = {f"solver/{index}" if index else "solver": step for index, step in enumerate(steps)}
    return ReplayedNoise({"start": start, **named})
