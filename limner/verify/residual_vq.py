"""Replays of residual quantisers."""

from __future__ import annotations

import torch

from limner.hub.official import quantizers as official
from limner.tokenizers.quantizers.residual import ResidualVQ
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("quantizers/residual-vq*")
@torch.no_grad()
def residual(case: Case) -> None:
    """Codes of every level, a step of their moving averages, one table for all levels."""
    quantizer = official.residual(case.hyper, case.weights())
    inner, given = quantizer.inner, case.input("x")
    assert isinstance(inner, ResidualVQ)
    ids = quantizer.nearest(given)
    case.check("ids", ids)
    case.check("quantized", quantizer.lookup(ids))
    case.check("codes", torch.stack(list(inner.parts(ids))))
    case.check("out_from_ids", quantizer.lookup(case.input("ids")))
    quantized = quantizer(given)
    case.check("train_quantized", quantized.values)
    case.check("train_commit_losses", torch.stack(list(quantized.losses.values())))
    upkeep = official.upkeep(quantizer, case.hyper, case.weights())
    upkeep.update(quantizer, given, quantized.ids, torch.Generator())
    case.check("train_embed_after", torch.stack([table.weight for table in inner.codebooks()]))
    case.check("train_cluster_size_after", torch.stack([each.counts for each in upkeep.kept]))
    shared = official.residual(case.hyper, case.weights(), shared=True)
    case.check("shared_ids", shared.nearest(given))
