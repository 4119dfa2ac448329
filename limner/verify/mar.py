"""Replays of MAR: the network under masks, the denoiser and its chain, whole runs by the loop."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.head import Outputs
from limner.core.layout import Layout, grid
from limner.core.memory import NoMemory
from limner.core.noise import ReplayedNoise
from limner.core.order import Partition, Step
from limner.core.row import Condition, Row
from limner.core.tokens import empty, from_values
from limner.decoding import generate
from limner.heads.diffusion import DiffusionHead
from limner.heads.gaussian import GaussianTables, kept_timesteps
from limner.hub.build import fill
from limner.hub.official import mar as official
from limner.layers.patchify import patchify, unpatchify
from limner.models.mar import MAR
from limner.orders.masking import masked_count, masked_front
from limner.orders.random import cosine_counts
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("mar/mar*")
@torch.no_grad()
def network(case: Case) -> None:
    """Encoder and decoder under given masks, and the loss at given times and noises."""
    model: MAR = official.MAR.build(official.mar_config(case.hyper), case.weights())
    tokens = from_values(_layout(model), patchify(case.input("latents"), case.hyper["patch_size"]))
    label, orders = case.input("labels"), case.input("orders")
    given = {"label": label}
    count = masked_count(orders.shape[1], case.arguments("num_masked")["mask_ratio"])
    masked = masked_front(orders, count)
    assert tokens.values is not None
    case.check("tokens", tokens.values)
    case.check("num_masked", count)
    case.check("mask", masked)
    packed = model.masked(tokens, given, masked)
    outputs = model(packed, NoMemory())
    case.check("enc_out", model.encode(packed, NoMemory()))
    case.check("z", outputs)
    case.check("z_null", model(model.masked(tokens, model.null(given), masked), NoMemory()))
    blind = model.masked(tokens, given, torch.ones_like(masked))
    case.check("z_all_masked", model(blind, NoMemory()))
    draws = (case.input("t"), case.input("noise"))
    case.check("loss_eval", model.head.loss_at(outputs, tokens.values, *draws, masked).total)
    dropped = torch.where(case.input("drop_ids"), model.null(given)["label"], label)
    outputs = model(model.masked(tokens, {"label": dropped}, masked), NoMemory())
    mse, bound = model.head.terms(outputs, tokens.values, *draws)
    case.check("loss_mse", mse)
    case.check("loss_vb", bound)
    case.check("loss", model.head.loss_at(outputs, tokens.values, *draws, masked).total)


@replay("mar/sampling*")
@torch.no_grad()
def sampling(case: Case) -> None:
    """Whole runs with given orders and noise, and the schedule of masks."""
    model: MAR = official.MAR.build(official.mar_config(case.hyper), case.weights())
    for name, schedule in case.match("mask_len_L{L}_T{T}"):
        case.check(name, torch.tensor(cosine_counts(schedule["L"], schedule["T"])))
    for run in case.hyper["runs"]:
        _check_run(case, model, run)


def _check_run(case: Case, model: MAR, run: str) -> None:
    arguments = case.hyper["runs"][run]
    options = official.sampling_options(arguments)
    layout, count = _layout(model), len(case.input(f"{run}_orders"))
    nobody = {"label": torch.full((count,), model.config.classes)}
    given = {"label": case.input(f"{run}_labels")} if arguments["labels"] else nobody
    scales = _Scales(model.config.head.steps)
    model.head.inner_steps = scales
    rows: list[Row] = []
    for index in range(count):
        own = {"label": given["label"][index : index + 1]}
        blank = empty(layout, width=model.config.token_width)
        rows += model.begin(blank, own, options, _noise(case, run, index))
    leads = generate(model, rows)
    values = torch.cat([row.tokens.values for row in leads if row.tokens.values is not None])
    orders = [row.order.step for row in leads if isinstance(row.order, Partition)]
    case.check(f"{run}_step_of", torch.stack(orders))
    case.check(f"{run}_mask_len", torch.tensor(cosine_counts(len(layout), len(scales.used))))
    case.check(f"{run}_cfg", torch.tensor([scales.used[step] for step in sorted(scales.used)]))
    grid_size = layout.extent[1:]
    latents = unpatchify(values, *grid_size, case.hyper["patch_size"])
    case.check(f"{run}_latents", latents, SAMPLING_RUN)
    first = [_blind(model, given)]
    if options.guidance.active:
        first.append(_blind(model, model.null(given)))
    case.check(f"{run}_z0", torch.cat(first))


class _Scales:
    """Leaves the denoising steps as they are, and remembers the guidance scale of every step."""

    def __init__(self, respacing: str) -> None:
        self.respacing = respacing
        self.used: dict[int, float] = {}

    def __call__(self, row: Row, step: Step) -> str:
        scale = row.options.guidance.scale(row, step)
        self.used[step.index] = 1.0 if scale is None else scale
        return self.respacing


def _noise(case: Case, run: str, row: int) -> ReplayedNoise:
    """Return a row's given noise; its order is what sorting "order" gives."""
    return ReplayedNoise(
        {
            "order": case.input(f"{run}_orders")[row].argsort(),
            "start": case.input(f"{run}_init_noise")[row],
            "solver": case.input(f"{run}_step_noise")[row],
        },
        per_inner=("solver",),
    )


def _blind(model: MAR, condition: Condition) -> Tensor:
    """Return the network's outputs when every token is masked."""
    tokens = empty(_layout(model), len(condition["label"]), width=model.config.token_width)
    outputs: Tensor = model(model.masked(tokens, condition, ~tokens.known), NoMemory())
    return outputs


def _layout(model: MAR) -> Layout:
    side = round(model.config.tokens**0.5)
    return grid(side, side, kind="values")


@replay("mar/diffloss*")
@torch.no_grad()
def denoiser(case: Case) -> None:
    """The denoiser, the chain's tables and respacings, its loss and its samples."""
    sizes = (case.hyper["target_channels"], case.hyper["z_channels"])
    head = DiffusionHead(*sizes, official.head_config(case.hyper))
    fill(head, official.HEAD.to_ours(case.weights()), "the case's weights")
    x, time = case.input("x"), case.input("t")
    condition = head.denoiser.condition(case.input("c"))
    case.check("t_embed", head.denoiser.time(time))
    case.check("out", torch.cat(head.predict(x, time, condition), dim=1))
    _check_guided(case, head, condition)
    target, noise = case.input("target"), case.input("noise")
    case.check("x_t", head.tables().add_noise(target, time, noise))
    mse, bound = head.terms(case.input("c").unsqueeze(0), target.unsqueeze(0), time, noise)
    case.check("loss_mse", mse)
    case.check("loss_vb", bound)
    case.check("train_betas", head.tables().betas)
    _check_tables(case, head.tables(case.hyper["num_sampling_steps"]), "")
    _check_tables(case, head.tables(case.hyper["int_sampling_steps"]), "int_")
    for name, entry in case.match("map_{respacing}"):
        kept = kept_timesteps(case.hyper["diffusion_steps"], entry["respacing"])
        case.check(name, torch.tensor(kept))
    for name, _ in case.match("{run}_out"):
        _check_samples(case, head, name)


def _check_guided(case: Case, head: DiffusionHead, condition: Tensor) -> None:
    lead, null = condition.chunk(2)
    x, time = case.input("x").chunk(2)[0], case.input("t")
    scales = torch.full((len(x),), case.arguments("out_cfg")["guidance_scale"])
    noise, _ = head.guided(x, time, lead, null, scales)
    _, codes = head.predict(torch.cat([x, x]), time, condition)
    case.check("out_cfg", torch.cat([torch.cat([noise, noise]), codes], dim=1))


def _check_tables(case: Case, tables: GaussianTables, prefix: str) -> None:
    case.check(f"{prefix}use_timesteps", tables.timesteps)
    case.check(f"{prefix}betas", tables.betas)
    case.check(f"{prefix}alphas_cumprod", tables.share)
    case.check(f"{prefix}posterior_log_variance_clipped", tables.posterior_log_variance)
    case.check(f"{prefix}posterior_mean_coef1", tables.posterior_clean)
    case.check(f"{prefix}posterior_mean_coef2", tables.posterior_noisy)


def _check_samples(case: Case, head: DiffusionHead, name: str) -> None:
    arguments, run = case.arguments(name), name.removesuffix("_out")
    start, steps = case.input(f"{run}_init"), case.input(f"{run}_steps")
    outputs = case.input("c").unsqueeze(0)
    null, scale = None, torch.tensor([arguments["guidance_scale"]])
    if arguments["guidance_scale"] != 1.0:
        outputs, null = outputs.chunk(2, dim=1)
    samples = head.sample(
        Outputs(outputs, null, scale),
        torch.tensor([arguments["temperature"]]),
        arguments["num_sampling_steps"],
        lambda purpose, inner: (start if purpose == "start" else steps[inner]).unsqueeze(0),
    )
    case.check(name, samples.squeeze(0), SAMPLING_RUN)
