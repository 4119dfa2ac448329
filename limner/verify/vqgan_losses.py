"""Replays of VQGAN's losses: LPIPS, the discriminator, and the balance of both players."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.hub.official import vqgan_losses as official
from limner.hub.official.var import part
from limner.tokenizers.objective import Objective
from limner.verify.case import Case
from limner.verify.registry import replay

_PARTS = {
    "nll_loss": "reconstruction",
    "rec_loss": "reconstruction",
    "p_loss": "perceptual",
    "g_loss": "adversarial",
    "d_weight": "adversarial_weight",
}


@replay("vqgan/losses*")
def losses(case: Case) -> None:
    """Both players' losses before and after the discriminator counts, and what they consist of."""
    pictures, last = case.input("image"), case.input("last_layer").requires_grad_()
    shown = torch.conv2d(case.input("feature"), last, padding=1)
    case.check("reconstruction", shown)
    for name, given in case.match("{time}_start_total"):
        step = case.arguments(name)["global_step"]
        _check_autoencoder(case, f"{given['time']}_start", step, (pictures, shown, last))
    for name, _ in case.match("disc_loss_{which}"):
        arguments = case.arguments(name)
        objective = _objective(case, arguments)
        step = arguments["global_step"]
        case.check(name, objective.discriminator_loss(pictures, shown, step))
    objective = _objective(case, {})
    case.check("lpips", objective.distances(pictures, shown))
    case.check("disc_eval_real", objective.discriminator(pictures))
    case.check("disc_eval_fake", objective.discriminator(shown))
    arguments = {**case.hyper, **case.arguments("actnorm_disc_real")}
    state = part(case.weights(), "actnorm_discriminator.")
    case.check("actnorm_disc_real", official.discriminator(arguments, state)(pictures))
    objective.train()
    case.check("disc_train_real", objective.discriminator(pictures))
    case.check("disc_train_fake", objective.discriminator(shown))
    for name, given in case.match("bn_after_main.{module}.{statistic}"):
        buffers = dict(objective.discriminator.named_buffers())
        case.check(name, buffers[f"{given['module']}.{given['statistic']}"])


def _check_autoencoder(
    case: Case, name: str, step: int, made: tuple[Tensor, Tensor, Tensor]
) -> None:
    pictures, shown, last = made
    loss = _objective(case, {}).autoencoder_loss(
        pictures, shown, case.input("codebook_loss"), last, step
    )
    case.check(f"{name}_total", loss.total)
    for official_name, ours in _PARTS.items():
        case.check(f"{name}_{official_name}", loss.parts[ours])
    (gradient,) = torch.autograd.grad(loss.total, last, retain_graph=True)
    case.check(f"{name}_grad_last_layer", gradient)


def _objective(case: Case, arguments: dict[str, Any]) -> Objective:
    state = case.weights()
    kept = ("perceptual_loss.", "discriminator.")
    state = {name: tensor for name, tensor in state.items() if name.startswith(kept)}
    return official.objective({**case.hyper, **arguments}, state)
