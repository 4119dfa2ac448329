"""Replays of MAR's KL autoencoder."""

from __future__ import annotations

import torch

from limner.core.noise import ReplayedNoise
from limner.hub.official import mar_vae as official
from limner.layers.patchify import patchify
from limner.tokenizers.kl_autoencoder import KLAutoencoder
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("mar/vae*")
@torch.no_grad()
def autoencoder(case: Case) -> None:
    """The posterior, tokens drawn with given noise, and pictures."""
    tokenizer: KLAutoencoder = official.VAE.build(official.kl_config(case.hyper), case.weights())
    pictures = case.input("pictures")
    posterior = tokenizer.posterior(pictures)
    case.check("moments", tokenizer.moments(pictures))
    case.check("mean", posterior.mean)
    case.check("logvar", posterior.log_variance)
    case.check("std", posterior.deviation)
    case.check("kl", posterior.divergence())
    normal = patchify(case.input("noise"), tokenizer.config.patch).flatten(0, 1)
    tokens = tokenizer.encode(pictures, ReplayedNoise({"posterior": normal}))
    latents = tokenizer.latents(tokens)
    case.check("latents", tokenizer.latents(tokens, scaled=True))
    case.check("decoded", tokenizer.decode_latents(latents))
    case.check("decoded_mode", tokenizer.decode_latents(posterior.mean))
