"""Replays of quantisers whose codes are fixed: FSQ, LFQ and BSQ."""

from __future__ import annotations

from dataclasses import replace

import torch

from limner.hub.official import quantizers as official
from limner.tokenizers.quantizers.bsq import BSQ
from limner.tokenizers.quantizers.fsq import FSQ, FSQConfig
from limner.tokenizers.quantizers.lfq import LFQ
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("quantizers/fsq*")
def fsq(case: Case) -> None:
    """Values, ids and gradients of both variants, and the lookup."""
    for name, given in case.match("L{levels}_z"):
        levels = tuple(int(count) for count in str(given["levels"]).split("_"))
        prefix = name.removesuffix("_z")
        quantizer, even = (FSQ(FSQConfig(levels=levels, symmetric=way)) for way in (False, True))
        vectors = case.input(name).requires_grad_()
        upstream, ids = case.input(f"{prefix}_upstream"), case.input(f"{prefix}_lookup_ids")
        quantized, evenly = quantizer(vectors), even(vectors)
        (gradient,) = torch.autograd.grad(quantized.values, vectors, upstream)
        case.check(f"{prefix}_values", quantized.values)
        case.check(f"{prefix}_ids", quantized.ids)
        case.check(f"{prefix}_grad_z", gradient)
        case.check(f"{prefix}_lookup_values", quantizer.lookup(ids))
        case.check(f"{prefix}_lookup_level_ids", quantizer.level_ids(ids))
        case.check(f"{prefix}_sym_values", evenly.values)
        case.check(f"{prefix}_sym_ids", evenly.ids)


@replay("quantizers/lfq*")
def lfq(case: Case) -> None:
    """Plain and spherical codes with their losses, and several ids a vector."""
    for variant in ("plain", "spherical"):
        config = official.lfq_config({**case.hyper, **case.arguments(f"{variant}_aux_loss")})
        quantizer, vectors = LFQ(config), case.input("x").requires_grad_()
        ids = quantizer.nearest(vectors)
        quantized = quantizer(vectors)
        single, mean = quantizer.entropies(vectors)
        pull = LFQ(replace(config, commitment=1.0))(vectors).losses["commitment"]
        case.check(f"{variant}_ids", ids)
        case.check(f"{variant}_values", quantizer.lookup(ids))
        case.check(f"{variant}_lookup", quantizer.lookup(case.input(f"{variant}_ids")))
        case.check(f"{variant}_aux_loss", quantized.loss)
        case.check(f"{variant}_per_sample_entropy", single)
        case.check(f"{variant}_batch_entropy", mean)
        case.check(f"{variant}_commitment", pull)
        case.check(f"{variant}_grad_x", torch.autograd.grad(quantized.loss, vectors)[0])
    several = official.projected_lfq(case.hyper["multi"], case.weights())
    ids = several.nearest(case.input("multi_x").movedim(1, -1))
    case.check("multi_ids", ids)
    case.check("multi_values", several.lookup(ids).movedim(-1, 1))


@replay("quantizers/bsq*")
def bsq(case: Case) -> None:
    """Codes, and the entropies by group of bits and by bit with their losses."""
    for way in ("group", "analytical", "bitwise"):
        arguments = {**case.hyper, **case.arguments(f"{way}_loss")}
        quantizer = BSQ(official.bsq_config(arguments))
        vectors = case.input("z").requires_grad_()
        quantized, entropies = quantizer(vectors), quantizer.entropies(vectors)
        case.check(f"{way}_loss", quantized.loss)
        case.check(f"{way}_grad_z", torch.autograd.grad(quantized.loss, vectors)[0])
        case.check(f"{way}_per_sample_entropy", entropies.single)
        case.check(f"{way}_codebook_entropy", entropies.mean)
        case.check(f"{way}_group_ids", quantizer.group_ids(vectors))
        case.check(f"{way}_avg_prob", entropies.chances)
        case.check("quantized", quantized.values)
        case.check("ids", quantized.ids)
        case.check("codes_from_ids", quantizer.lookup(case.input("ids")))
