"""Replays of CSpD: acceptance and resampling on given Gaussians, whole runs by the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limner.core.layout import grid
from limner.core.noise import ReplayedNoise
from limner.core.row import Row
from limner.core.tokens import empty
from limner.decoding import generate
from limner.decoding.blocks import SpeculationConfig
from limner.decoding.speculation import Speculative, Verdict
from limner.heads.acceptance import kept_share, log_correction, log_ratio, resample
from limner.heads.diffusion import LastStep
from limner.hub.official import mar as official
from limner.hub.official.var import part
from limner.layers.patchify import unpatchify
from limner.models.mar import MAR
from limner.verify.case import Case
from limner.verify.compare import SAMPLING_RUN
from limner.verify.registry import replay


@replay("cspd/accept*")
def accept(case: Case) -> None:
    """Acceptance ratios, what is kept, and what takes the place of the rest."""
    x, draft, target = case.input("x"), _last_step(case, "q"), _last_step(case, "p")
    correction = log_correction(draft, target)
    inner = case.arguments("prob")["inner_temperature"]
    ratio = (log_ratio(x, draft, target, inner) + correction).exp()
    accepted = ratio > case.input("u")
    normal, uniform = case.input("proposal_noise"), case.input("eps_u")
    proposals = target.mean + target.deviation * normal
    rounds = min(case.arguments("out")["max_rounds"], len(normal))
    noises = normal.__getitem__, uniform.__getitem__
    taken, hit, made = resample(draft, target, correction, *noises, rounds)
    case.check("prob", ratio)
    case.check("accepted", accepted)
    case.check("alpha", kept_share(proposals, draft, target, correction))
    case.check("iterations", made)
    case.check("first_hit", hit)
    case.check("out", torch.where(accepted.unsqueeze(-1), x, taken))


def _last_step(case: Case, name: str) -> LastStep:
    return LastStep(*(case.input(f"{name}_{part}") for part in ("mean", "std", "logsum")))


@replay("cspd/run*")
@torch.no_grad()
def run(case: Case) -> None:
    """Whole runs with given orders and noise: what was accepted when, and the latents."""
    weights = case.weights()
    draft, target = (_model(case.hyper[part], weights, f"{part}.") for part in ("draft", "target"))
    for name, arguments in case.hyper["runs"].items():
        config = SpeculationConfig(
            "released",
            arguments["num_draft"],
            arguments["ratio"],
            arguments["inner_temperature"],
            case.hyper["max_rounds"],
        )
        _check_run(case, name, Speculative(draft, target, config), arguments)


def _model(hyper: Mapping[str, Any], weights: Mapping[str, Tensor], prefix: str) -> MAR:
    config = official.mar_config({**hyper, "diffusion_batch_mul": 1, "label_drop_prob": 0.0})
    model: MAR = official.MAR.build(config, part(weights, prefix))
    return model


def _check_run(case: Case, run: str, model: Speculative, arguments: Mapping[str, Any]) -> None:
    labels, options = case.input(f"{run}_labels"), official.sampling_options(arguments)
    count, side = len(labels), round(model.config.tokens**0.5)
    found = _Found(count, model.config.tokens)
    model.head.watches.append(found)
    rows: list[Row] = []
    for index in range(count):
        blank = empty(grid(side, side, kind="values"), width=model.config.token_width)
        condition = {"label": labels[index : index + 1]}
        rows += model.begin(blank, condition, options, _noise(case, run, index))
    found.rows = [row for row in rows if row.lead is None]
    leads = generate(model, rows)
    values = torch.cat([row.tokens.values for row in leads if row.tokens.values is not None])
    case.check(f"{run}_prob", found.ratio)
    case.check(f"{run}_accepted", found.accepted)
    case.check(f"{run}_verify_step", found.step)
    patch = case.hyper["target"]["patch_size"]
    case.check(f"{run}_latents", unpatchify(values, side, side, patch), SAMPLING_RUN)


class _Found:
    """Remembers what was decided about every token: float and int64 [B, N]."""

    def __init__(self, count: int, tokens: int) -> None:
        self.rows: list[Row] = []
        self.ratio = torch.zeros(count, tokens)
        self.accepted = torch.full((count, tokens), -1)
        self.step = torch.full((count, tokens), -1)

    def __call__(self, verdict: Verdict) -> None:
        for index, (row, block) in enumerate(zip(verdict.rows, verdict.blocks, strict=True)):
            place, drafted = self.rows.index(row), verdict.drafted[index]
            tokens = verdict.tokens[index][drafted]
            self.ratio[place, tokens] = verdict.ratio[index][drafted]
            self.accepted[place, tokens] = verdict.accepted[index][drafted].long()
            self.step[place, tokens] = block.index


def _noise(case: Case, run: str, row: int) -> ReplayedNoise:
    """Return a row's given noise; the case counts inner steps from the end, rounds come first."""
    return ReplayedNoise(
        {
            "order": case.input(f"{run}_orders")[row].argsort(),
            "start": case.input(f"{run}_noise")[row],
            "solver": case.input(f"{run}_inter_noise")[row].flip(1),
            "accept": case.input(f"{run}_u")[row],
            "proposal": case.input(f"{run}_proposal_noise")[:, row].movedim(0, 1),
            "residual": case.input(f"{run}_eps_u")[:, row].movedim(0, 1),
        },
        per_inner=("solver", "proposal", "residual"),
    )
