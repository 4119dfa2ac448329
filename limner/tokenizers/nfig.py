"""NFIG's tokenizer: a pyramid of residual codes whose scales are bands of frequencies.

Huang et al., "NFIG: Autoregressive Image Generation with Next-Frequency Prediction",
arXiv:2503.07076. No code is published. From the paper: latents are split by frequency, low bands
take few tokens, and residuals are quantised one after another. Chosen here: VAR's autoencoder,
codebook and sizes, and what a band is: the frequencies that a grid of its size carries, lower ones
included, so that a band also mends what the quantisation of earlier ones left over
(`limner.tokenizers.quantizers.resampling`).
"""

from __future__ import annotations

from limner.core.registry import TOKENIZERS
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig
from limner.tokenizers.var_vqvae import VARVQVAEConfig

TOKENIZERS.variant(
    "nfig-vqvae",
    "var-vqvae",
    VARVQVAEConfig(quantizer=MultiScaleConfig(resampling="fourier")),
)
