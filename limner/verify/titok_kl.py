"""Replays of AR-Diffusion's tokenizers, whose official clips are in [0, 1]."""

from __future__ import annotations

import torch

from limner.hub.official import titok_kl as official
from limner.tokenizers.titok_kl import TiTokKL
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("ar-diffusion/vae*")
@torch.no_grad()
def tokenizer(case: Case) -> None:
    """Every stage from clip to latents and back."""
    tokenizer: TiTokKL = official.TITOK_KL.build(official.titok_config(case.hyper), case.weights())
    moments = tokenizer.moments(2 * case.input("frames") - 1)
    latents = moments.chunk(2, dim=2)[0]
    logits = tokenizer.code_logits(latents)
    case.check("moments", moments.unsqueeze(3))
    case.check("latents", latents.unsqueeze(3))
    case.check("code_logits", logits)
    case.check("decoded", (tokenizer.paint(logits) + 1) / 2)
