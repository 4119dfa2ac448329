"""Replays of ACDiT: masks, positions and solver; the network in one pass; runs by the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limner.core.layout import Layout, grid
from limner.core.noise import ReplayedNoise
from limner.core.order import Partition
from limner.core.slots import attention_mask, skip_causal
from limner.core.tokens import Tokens, empty, from_values
from limner.decoding import generate
from limner.heads.dpm_solver import dpm_solver, linspace_timesteps, noise_ratios
from limner.heads.flow import SameCount
from limner.heads.gaussian import gaussian_tables
from limner.hub.official import acdit as official
from limner.layers.axial_mixing import mix_positions, mixing_table
from limner.layers.patchify import patchify
from limner.models.acdit import ACDiT, ACDiTConfig
from limner.orders import runs
from limner.orders.copies import block_slots
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("acdit/mask*")
@torch.no_grad()
def tables(case: Case) -> None:
    """Who sees whom, where tokens stand, and the solver on a given function."""
    for name, entry in case.match("scam_T{T}_B{B}"):
        order = _runs(entry["T"], entry["B"])
        every = block_slots(order, (0, entry["T"]), (0, entry["T"]))
        case.check(name, attention_mask(skip_causal, every, every))
    for name, entry in case.match("infer_T{k}_B{B}"):
        k, size = entry["k"], entry["B"]
        order = _runs(k + 1, size)
        queries = block_slots(order, (k - 1, k), (k, k + 1))
        keys = block_slots(order, (0, k), (k, k + 1))
        case.check(name, attention_mask(skip_causal, queries, keys, (k - 1) * size))
    for name, _ in case.match("{grid}_position_ids"):
        _check_positions(case, name.removesuffix("_position_ids"))
    _check_solver(case)


def _runs(count: int, size: int) -> Partition:
    return runs(grid(count, size, kind="values"), size)


def _check_positions(case: Case, name: str) -> None:
    hyper = case.hyper[name]
    layout = _layout(hyper)
    config = ACDiTConfig(
        token_width=hyper["latent_size"],
        block=hyper["block_size"],
        square=hyper["square_block"],
        split=official.axis_shares(hyper["nd_split"]),
    )
    places, shares = _drawn(config, layout), config.shares(layout)
    table = mixing_table(layout, shares, torch.device("cpu"), torch.float32)[places]
    case.check(f"{name}_position_ids", layout.coordinates()[places, 4 - len(shares) :].T)
    case.check(f"{name}_cos", table[:, 0])
    case.check(f"{name}_sin", table[:, 1])
    case.check(f"{name}_q_rot", mix_positions(case.input(f"{name}_q"), table))


def _check_solver(case: Case) -> None:
    chain = gaussian_tables("linear")
    case.check("alphas_cumprod", chain.share)
    for name, entry in case.match("timesteps_{n}"):
        case.check(name, linspace_timesteps(len(chain), entry["n"]))
    for name, entry in case.match("sigmas_{n}"):
        case.check(name, noise_ratios(chain, linspace_timesteps(len(chain), entry["n"])))
    start, matrix = case.input("toy_x"), case.input("toy_w")

    def noise(x: Tensor, time: Tensor) -> Tensor:
        return torch.tanh(x @ matrix + time.reshape(-1, 1, 1) / 1000)

    for name, entry in case.match("toy_out_{n}"):
        case.check(name, dpm_solver(noise, start, chain, [entry["n"]] * len(start)))


@replay("acdit/*")
@torch.no_grad()
def network(case: Case) -> None:
    """The noise told in one pass, its loss, and guided runs with given noise."""
    config = official.acdit_config(case.hyper)
    model: ACDiT = official.ACDIT.build(config, case.weights())
    layout = _layout(case.hyper)
    places = _drawn(config, layout)
    _check_teaching(case, model, layout, places)
    for name in case.hyper["runs"]:
        _check_run(case, model, layout, name)
    latents = case.input("vae_latents")
    maps = latents.reshape(-1, *latents.shape[-3:])
    tokens = patchify(maps, case.hyper["patch_size"], channels_last=True)
    tokens = tokens.reshape(len(latents), -1, tokens.shape[-1])[:, places]
    case.check("blocks", tokens.unflatten(1, (-1, config.block)))


def _check_teaching(case: Case, model: ACDiT, layout: Layout, places: Tensor) -> None:
    def by_token(blocks: Tensor) -> Tensor:
        """Return what is given block after block, [N, T, B, ...], in the order of the layout."""
        return blocks.flatten(1, 2)[:, places.argsort()]

    clean, noise = by_token(case.input("clean")), by_token(case.input("noise"))
    time = case.input("t").repeat_interleave(model.config.block, 1)[:, places.argsort()]
    noisy = model.head.tables.add_noise(clean, time, noise)
    label = {"label": case.input("y")}
    dropped = torch.where(case.input("drop_ids"), model.null(label)["label"], label["label"])
    tokens = from_values(layout, clean)
    told = model.teach(tokens, {"label": dropped}, noisy, time)
    case.check("noised", noisy[:, places].unflatten(1, (-1, model.config.block)))
    case.check("out", told[:, places])
    case.check("loss", model.head.loss(told, noise).total)
    case.check("out_nodrop", model.teach(tokens, label, noisy, time)[:, places])


def _check_run(case: Case, model: ACDiT, layout: Layout, name: str) -> None:
    arguments = case.hyper["runs"][name]
    options, labels = official.sampling_options(arguments), case.input("gen_y")
    model.head.inner_steps = SameCount(arguments["steps"])
    places, size = _drawn(model.config, layout), model.config.block
    given = case.input("gen_noise").flatten(1, 3)[:, places.argsort()]
    rows = []
    for index, start in enumerate(given):
        blank = empty(layout, width=model.config.token_width)
        own = {"label": labels[index : index + 1]}
        rows += model.begin(blank, own, options, ReplayedNoise({"start": start}))
    passes: list[Tensor] = []
    hook = model.register_forward_hook(lambda module, inputs, output: passes.append(output))
    leads = generate(model, rows)
    hook.remove()
    drawn = Tokens(layout, None, torch.cat([_values(row.tokens) for row in leads]), blank.known)
    order = sorted(range(len(rows)), key=lambda index: rows[index].lead is not None)
    first = torch.stack(passes[:: arguments["steps"]])[:, order]
    case.check(f"{name}_first_eps", first)
    case.check(name, _values(drawn)[:, places].unflatten(1, (-1, size)), SAMPLING_RUN)


def _values(tokens: Tokens) -> Tensor:
    assert tokens.values is not None
    return tokens.values


def _layout(hyper: Mapping[str, Any]) -> Layout:
    side = round(hyper["spatial_len"] ** 0.5)
    return grid(side, side, hyper["temporal_len"], kind="values")


def _drawn(config: ACDiTConfig, layout: Layout) -> Tensor:
    """Return all tokens in the order in which they are drawn, int64 [N]."""
    return torch.cat([step.draw for step in config.blocks(layout).steps])
