"""Replays of quantisers with learned codes: assignments, gradients, moving averages."""

from __future__ import annotations

import torch

from limner.hub.official import quantizers as official
from limner.tokenizers.quantizers.codebook import Codebook, commitment_loss
from limner.tokenizers.quantizers.upkeep import MovingAverages
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("quantizers/vq-*")
def codebook(case: Case) -> None:
    """Assignments, both ways of passing gradients, and the commitment loss."""
    codes = official.codebook(case.hyper, case.weights()).requires_grad_(False)
    given, upstream = case.input("x"), case.input("upstream")
    ids = codes.nearest(given)
    case.check("ids", ids)
    case.check("quantized", codes.lookup(ids))
    case.check("codes_from_ids", codes.lookup(case.input("ids")))
    for name in ("grad_x_rotation", "grad_x_straight_through"):
        codes.rotation = case.arguments(name)["rotation_trick"]
        vectors = given.clone().requires_grad_()
        quantized = codes(vectors)
        case.check(name, torch.autograd.grad(quantized.values, vectors, upstream)[0])
        if codes.rotation:
            case.check("train_quantized_rotation", quantized.values)
    vectors = given.clone().requires_grad_()
    loss = codes(vectors).losses["commitment"]
    case.check("commit_loss_weighted", loss)
    case.check("grad_x_commit", torch.autograd.grad(loss, vectors)[0])


@replay("quantizers/vq-ema-update*")
@torch.no_grad()
def moving_averages(case: Case) -> None:
    """Steps of moving averages, some of them masked, and a step that revives codes."""
    codes = official.codebook(case.hyper, case.weights())
    upkeep = official.upkeep(codes, case.hyper, case.weights())
    for number in sorted(given["n"] for _, given in case.match("step{n}_x")):
        step = f"step{number}"
        given = case.input(f"{step}_x")
        mask = case.input(f"{step}_mask") if f"{step}_mask" in case else None
        quantized = codes(given, mask)
        # masked inputs are compared as they are, even where directions are quantised
        masked = None if mask is None else commitment_loss(given[mask], quantized.values[mask])
        case.check(f"{step}_ids", quantized.ids)
        case.check(f"{step}_quantized", quantized.values)
        case.check(
            f"{step}_commit_loss", quantized.losses["commitment"] if masked is None else masked
        )
        upkeep.update(codes, given, quantized.ids, torch.Generator())
        _check_averages(case, step, codes, upkeep.kept[0])
    _revival(case)


def _revival(case: Case) -> None:
    codes = official.codebook(case.hyper, case.weights())
    upkeep = official.upkeep(codes, case.hyper, case.weights())
    averages = upkeep.kept[0]
    averages.counts.copy_(case.input("dead_cluster_size_before"))
    averages.sums.copy_(case.input("dead_embed_avg_before"))
    given = case.input("step1_x")
    ids = codes.nearest(given)
    upkeep.update(codes, given, ids, torch.Generator())
    vectors = codes.assignments(given, ids)[0].vectors[case.input("dead_perm")]
    averages.revive(codes, vectors, case.arguments("dead_embed")["threshold_ema_dead_code"])
    _check_averages(case, "dead", codes, averages)


def _check_averages(case: Case, step: str, codes: Codebook, averages: MovingAverages) -> None:
    case.check(f"{step}_cluster_size", averages.counts)
    case.check(f"{step}_embed_avg", averages.sums)
    case.check(f"{step}_embed", codes.weight)
